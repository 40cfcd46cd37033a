from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import complexity
from benchmarks.complexity import graph_of_network, main
from benchmarks.graph_cost import cost_of_graph
from benchmarks.measurement import Measurement, read
from export.origins import find, names


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_counts_of_every_network_are_torchs_own(name: str) -> None:
    entry = find(name).spec
    unit = max(entry.multiple, entry.stride)
    size = (128 // unit * unit + entry.align_corners, 256 // unit * unit + entry.align_corners)
    size = size if all(n % entry.multiple == 0 for n in size) else (128 // unit * unit, 256 // unit * unit)
    with torch.device("meta"):
        network = find(name).load()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 3, *size, device="meta"))
    model = graph_of_network(name, size)[0]
    cost = cost_of_graph(model)
    assert cost.uncounted == ()
    own = {tensor.name for tensor in model.graph.initializer if not tensor.name.startswith("network.")}
    pooling = {node.name for node in model.graph.node if node.op_type == "MatMul" and own & set(node.input)}
    pooled = [layer for layer in cost.layers if layer.name in pooling]
    flops = cost.flops - sum(2 * (layer.macs or 0) for layer in pooled)
    assert flops == pytest.approx(counter.get_total_flops(), rel=0.005)  # which counts adaptive pooling as nothing
    deployed = {key: p.numel() for key, p in network.named_parameters() if not key.startswith("aux")}
    for (key, first), (_, second) in pairwise(network.named_modules()):
        if isinstance(first, torch.nn.Conv2d) and isinstance(second, torch.nn.BatchNorm2d):
            deployed.pop(f"{key}.bias", None)  # one with the normalisation's
    normalisations = [f"{key}.weight" for key, m in network.named_modules() if isinstance(m, torch.nn.BatchNorm2d)]
    folded = sum(deployed.pop(key, 0) for key in normalisations)  # into the convolution's weight; its bias stays
    assert (folded > 0) == bool(normalisations)
    sizes = {tensor.name: sum(tensor.dims) for tensor in model.graph.initializer}
    kept = sum(sizes[node.input[1]] for node in model.graph.node if node.op_type == "BatchNormalization")
    parameters = cost.parameters - sum(layer.parameters for layer in pooled)
    assert parameters == pytest.approx(sum(deployed.values()) + kept, rel=2e-4)


def test_artifact_is_counted_by_hand_formulas_and_its_row_kept(
        engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(engine), "--layers", "0", "--rows", str(tmp_path / "rows.jsonl")]) == 0
    entry, = read(tmp_path / "rows.jsonl")
    # 32x48 in: stem 8x3x3x3 at 16x24, down 16x8x3x3 at 8x12, gate 16x16 once, classifier 11x16 at 8x12
    macs = 16 * 24 * 8 * 27 + 8 * 12 * 16 * 72 + 16 * 16 + 8 * 12 * 11 * 16
    assert entry.values["gmacs"] == pytest.approx(macs / 1e9)
    assert entry.values["gflops"] == pytest.approx(2 * macs / 1e9)
    # weights, and biases of down, gate and classifier; the stem's fresh normalisation folds into a bias of zero
    assert entry.values["parameters"] == 8 * 27 + 16 * 72 + 16 + 16 * 16 + 16 + 11 * 16 + 11
    assert entry.details["uncounted"] == []
    assert "GFLOP = 2 x GMAC" in capsys.readouterr().out


def test_size_that_an_artifact_cannot_take_is_the_users_mistake(
        engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(engine), "--size", "64x64"]) == 2
    assert "takes 32x48 only" in capsys.readouterr().err


def test_all_counts_every_listed_network_and_says_its_share_of_what_was_published(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def counted(name: str, size: None) -> tuple[Measurement, None]:
        values = dict.fromkeys(("parameters", "other_gops", "weights_mb", "activations_mb"), 1.0)
        values |= {"gmacs": 36.663, "gflops": 73.326}
        return Measurement("complexity", name, "", "fp32", find(name).spec.counted_at, "", "", "", values, 1, {}, "",
                           "", details={"uncounted": []}), None

    monkeypatch.setattr(complexity, "measured", counted)
    assert main(["--all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:1 + len(names())]] == names()
    published = next(line for line in lines if line.startswith("ddrnet-slim ") and "36.3 GFLOPs" in line)
    assert published.endswith("paper; counted here: 1.010 of it in GMAC")  # 36.663 / 36.3
    assert not any("counted here" in line for line in lines if " 1.7 GFLOPs" in line)  # DFANet A' is of another size


@pytest.mark.parametrize("arguments", [[], ["lraspp", "--all"]])
def test_all_and_names_exclude_each_other(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "--all" in capsys.readouterr().err
