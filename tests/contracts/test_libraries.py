"""Networks of three libraries, with tiny encoders and random weights, through every target; the table of what holds.

    EDGESEG_TABLE=1 python -m pytest tests/contracts/test_libraries.py

writes each row of `docs/libraries.md` anew. Without that, what the table says is held: a cell that says "holds" must.
"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from calibration.data.coverage import choose
from calibration.data.frames import drawn_frame
from calibration.judge.engines import Simulated
from calibration.quantise.graph import FloatGraph
from calibration.quantise.quantize import Plan, all_nodes, int8_from_float
from calibration.quantise.ranges import collect
from calibration.quantise.thresholds import choose as choose_thresholds
from export.build import build
from export.origins import find
from export.origins.library import _logits as takes
from export.origins.origin import Origin
from export.request import Request
from export.target import Job, target
from runtime.artifact import open_artifact
from runtime.errors import EdgesegError
from runtime.mask import class_map
from tests.contracts.test_exports import RANDOM, awakened

pytestmark = pytest.mark.slow
TABLE = Path(__file__).parents[2] / "docs" / "libraries.md"
COLUMNS = ("onnx", "int8", "litert", "coreml")

TORCHVISION = [f"torchvision:{name}" for name in (
    "lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large", "fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50",
    "deeplabv3_resnet101")]
SMP = [f"smp:{name}" for name in (
    "Unet?encoder_name=resnet18", "UnetPlusPlus?encoder_name=mobilenet_v2", "MAnet?encoder_name=resnet18",
    "Linknet?encoder_name=efficientnet-b0", "FPN?encoder_name=tu-mobilenetv3_small_100", "PSPNet?encoder_name=resnet18",
    "PAN?encoder_name=resnet18", "DeepLabV3?encoder_name=mobilenet_v2", "DeepLabV3Plus?encoder_name=mobilenet_v2",
    "UPerNet?encoder_name=resnet18", "Segformer?encoder_name=mit_b0", "DPT?encoder_name=tu-vit_tiny_patch16_224")]
HF = ("segformer", "mobilenet_v2", "mobilevit", "mobilevitv2", "upernet-convnext", "beit", "data2vec-vision")


def saved(kind: str, folder: Path) -> str:
    """A tiny network of transformers' with random weights, as `save_pretrained` writes it → its name."""
    t = pytest.importorskip("transformers", reason="transformers is not installed", exc_type=ImportError)
    vision = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 64,
              "image_size": 96, "patch_size": 16, "out_indices": [1, 2, 3, 4], "num_labels": 11,
              "use_auxiliary_head": False, "pool_scales": [1, 2]}
    made = {
        "segformer": lambda: t.SegformerForSemanticSegmentation(t.SegformerConfig(num_labels=11)),
        "mobilenet_v2": lambda: t.MobileNetV2ForSemanticSegmentation(t.MobileNetV2Config(num_labels=11)),
        "mobilevit": lambda: t.MobileViTForSemanticSegmentation(t.MobileViTConfig(
            num_labels=11, hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 16, 24, 24, 32, 64])),
        "mobilevitv2": lambda: t.MobileViTV2ForSemanticSegmentation(t.MobileViTV2Config(
            num_labels=11, width_multiplier=0.5)),
        "upernet-convnext": lambda: t.UperNetForSemanticSegmentation(t.UperNetConfig(
            backbone_config=t.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1] * 4,
                                             out_features=["stage1", "stage2", "stage3", "stage4"]),
            num_labels=11, hidden_size=32, use_auxiliary_head=False)),
        "beit": lambda: t.BeitForSemanticSegmentation(t.BeitConfig(**vision)),
        "data2vec-vision": lambda: t.Data2VecVisionForSemanticSegmentation(t.Data2VecVisionConfig(
            **{key: value for key, value in vision.items() if key != "out_indices"}, out_indices=[1, 2, 3, 4]))}
    path = folder / kind
    made[kind]().eval().save_pretrained(path)
    return f"hf:{path}"


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory):  # a function of a name
    """Name → the network's request with random weights at a tiny size, each made once."""
    made: dict[str, Request] = {}

    def request(name: str) -> Request:
        if name not in made:
            library = name.partition(":")[0]
            module = {"smp": "segmentation_models_pytorch", "hf": "transformers"}.get(library, library)
            pytest.importorskip(module, reason=f"{module} is not installed", exc_type=ImportError)
            folder = tmp_path_factory.mktemp("hf")
            made[name] = _request(find(saved(name[3:], folder) if library == "hf" else name))
        return made[name]

    return request


def _request(origin: Origin) -> Request:
    edge, network = origin.spec.multiple, origin.load()
    fitting = (size for size in ((64, 96), (128, 192), (edge, 2 * edge), (edge, edge))
               if size[0] % edge == size[1] % edge == 0 and takes(network, size))
    size = next(fitting)  # smp's PAN halves its coarsest map three times, and 64 pixels are too few
    entry = dataclasses.replace(origin.spec, preprocess=dataclasses.replace(origin.spec.preprocess, size=size))
    networks = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        networks.append(awakened(origin.load(), entry))
    return Request(entry, *networks, RANDOM)


def outcome(column: str, wanted: Request, folder: Path) -> str:
    """One cell of the table: "holds" with what agrees, or why not."""
    try:
        if column == "int8":
            return f"{_int8(wanted, folder):.1%}"
        artifact, _ = open_artifact(build(column, Job(wanted, folder)))
    except EdgesegError as error:
        return "refused: " + re.sub(r"/\S+/|\n.*", "", error.what.partition("; expected")[0]).replace("|", "/")
    last = artifact.verification[-1]
    return f"holds ({last.agreement:.3%})"


def _int8(wanted: Request, folder: Path) -> float:
    """Share of pixels that keep their class when everything that can be is INT8, simulated, on frames not calibrated
    on."""
    artifact, path = open_artifact(build("onnx", Job(wanted, folder)))
    (folder / "images").mkdir()
    for index in range(8):
        cv2.imwrite(str(folder / "images" / f"{index}.png"), drawn_frame(artifact.preprocess.size, index))
    import onnx

    graph = FloatGraph(onnx.load(path))
    chosen = choose(folder / "images", 8, artifact.preprocess, allow_few=True)
    ranges = choose_thresholds("mse", collect(graph, chosen, folder))
    engines = Simulated(graph.model), Simulated(int8_from_float(graph, ranges, Plan(all_nodes(graph))))
    same = []
    for index in range(20, 24):
        frame = drawn_frame(artifact.preprocess.size, index)[None]
        a, b = (class_map(np.moveaxis(engine.run(frame)[0], -1, 0), artifact.preprocess.size,
                          align_corners=artifact.align_corners) for engine in engines)
        same.append(np.mean(a == b))
    return float(np.mean(same))


def documented() -> dict[str, dict[str, str]]:
    """Network → column → cell, as the table in the docs has it."""
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: dict(zip(COLUMNS, cells.split(" | "))) for name, cells in rows}


def write(name: str, column: str, cell: str) -> None:
    """Put one cell into the table in the docs."""
    cells = documented()
    cells.setdefault(name, dict.fromkeys(COLUMNS, "–"))[column] = cell
    head = TABLE.read_text(encoding="utf-8").split("| network |")[0]
    order = [*TORCHVISION, *SMP, *(f"hf:{kind}" for kind in HF)]
    lines = ["| network | ONNX | INT8, simulated | LiteRT | Core ML |", "| --- | --- | --- | --- | --- |",
             *(f"| `{n}` | {' | '.join(cells[n][c] for c in COLUMNS)} |" for n in order if n in cells)]
    TABLE.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", [*TORCHVISION, *SMP, *(f"hf:{kind}" for kind in HF)])
@pytest.mark.parametrize("column", COLUMNS)
def test_a_library_s_network_goes_through_every_target_as_the_table_says(
        column: str, name: str, wanted, tmp_path: Path) -> None:
    if column != "int8" and (why := target(column).hindrance()):
        pytest.skip(why)
    cell = outcome(column, wanted(name), tmp_path)
    if os.environ.get("EDGESEG_TABLE"):
        write(name, column, cell)
    elif documented().get(name, {}).get(column, "").startswith("holds"):
        assert cell.startswith("holds"), cell
