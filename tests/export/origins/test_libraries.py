"""Networks by a library's name: what the adapters find out. Each test skips where its library is not installed; the
exports of many of them are in `tests/contracts/test_libraries.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from export import weights
from export.origins import find
from export.origins.library import named, probed
from export.origins.outputs import logits_of
from runtime.errors import UserError


@pytest.mark.parametrize("wrap", [lambda y: y, lambda y: (y, 1), lambda y: {"out": y, "aux": y},
                                  lambda y: {"logits": y}, lambda y: type("Output", (), {"logits": y})()])
def test_logits_are_found_where_libraries_put_them(wrap: Any) -> None:
    y = torch.rand(1, 2, 3, 4)
    assert logits_of(wrap(y)) is y


@pytest.mark.parametrize(("value", "what"), [
    ({"masks": 1, "boxes": 2}, "a dict with the keys masks, boxes"), ((), "a tuple of nothing"),
    (("a", 1), "a tuple of str, int"), (None, "a NoneType")])
def test_anything_else_is_an_error_that_says_what_came(value: object, what: str) -> None:
    with pytest.raises(UserError, match=f"returns {what}; expected logits"):
        logits_of(value)


def test_options_stand_behind_the_question_mark() -> None:
    assert named("smp:Unet?encoder_name=resnet18&encoder_depth=4&decoder_channels=(8,4)&x=True") == (
        "Unet", {"encoder_name": "resnet18", "encoder_depth": 4, "decoder_channels": (8, 4), "x": True})


class Strided(nn.Module):
    """Logits at a quarter of the frame; takes multiples of `multiple` only, or one size."""

    def __init__(self, multiple: int = 1, only: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.multiple, self.only, self.conv = multiple, only, nn.Conv2d(3, 5, 3, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[2:]
        if height % self.multiple or width % self.multiple or (self.only and (height, width) != self.only):
            raise RuntimeError("another size")
        y: torch.Tensor = self.conv(x)
        return y


def test_stride_and_multiple_are_found_by_running_small_frames() -> None:
    assert probed(Strided(), (512, 512)) == (4, 1, (512, 512))
    assert probed(Strided(16), (512, 512)) == (4, 16, (512, 512))
    assert probed(Strided(only=(224, 224)), (512, 512), (224, 224)) == (4, 224, (224, 224))
    with pytest.raises(UserError, match="takes no float32 frame"):
        probed(Strided(only=(100, 100)), (512, 512))


def test_torchvision_s_networks_state_their_classes_weights_and_normalisation() -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed", exc_type=ImportError)
    entry = find("torchvision:lraspp_mobilenet_v3_large").spec
    assert (entry.stride, entry.align_corners, entry.multiple, entry.preprocess.size) == (8, False, 1, (520, 520))
    assert (entry.classes.names[15], len(entry.classes.palette)) == ("person", 21)
    assert entry.weights["coco_with_voc_labels_v1"][1] == "d234d4ea"
    with pytest.raises(UserError, match=r"no segmentation network 'lrasp'; known: .*lraspp_mobilenet_v3_large"):
        find("torchvision:lrasp")


def test_torchvision_s_network_is_its_own_up_to_the_final_upsampling() -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed", exc_type=ImportError)
    from torchvision import models

    theirs = models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5).eval()
    ours = find("torchvision:lraspp_mobilenet_v3_large").load(5)
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        low = nn.functional.interpolate(ours(x), size=(64, 96), mode="bilinear", align_corners=False)
        torch.testing.assert_close(low, theirs(x)["out"])


def test_smp_s_upsampling_leaves_the_network_and_its_convention_stays(tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch", reason="smp is not installed", exc_type=ImportError)
    name = "smp:FPN?encoder_name=tu-mobilenetv3_small_100"
    origin = find(name)
    assert (origin.spec.name, origin.spec.stride, origin.spec.align_corners, origin.spec.multiple) == (
        "smp-fpn-tu-mobilenetv3_small_100", 4, True, 32)
    theirs = smp.FPN("tu-mobilenetv3_small_100", encoder_weights=None, classes=5).eval()
    ours = origin.load(5)
    ours.load_state_dict(theirs.state_dict())
    x = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        low = nn.functional.interpolate(ours(x), size=(64, 96), mode="bilinear", align_corners=True)
        torch.testing.assert_close(low, theirs(x))
    (tmp_path / "my.toml").write_text('name = "mine"\nsize = [64, 96]\n', encoding="utf-8")
    stated = find(f"{name}@{tmp_path / 'my.toml'}").spec
    assert (stated.name, stated.preprocess.size, stated.stride) == ("mine", (64, 96), 4)
    with pytest.raises(UserError, match=r"cannot be built .*expected options of smp\.FPN"):
        find("smp:FPN?encoder_name=nobody")


def test_a_folder_that_save_pretrained_wrote_says_everything(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed", exc_type=ImportError)
    config = transformers.SegformerConfig(hidden_sizes=[8, 8, 16, 16], depths=[1] * 4, num_attention_heads=[1] * 4,
                                          decoder_hidden_size=8, id2label={0: "road", 1: "sky", 2: "cat"})
    network = transformers.SegformerForSemanticSegmentation(config).eval()
    network.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({
        "size": {"height": 64, "width": 96}, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 1, 0.5], "more": {}}))
    origin = find(f"hf:{tmp_path}")
    entry = origin.spec
    assert (entry.classes.names, entry.stride, entry.preprocess.size) == (("road", "sky", "cat"), 4, (64, 96))
    assert (entry.preprocess.mean, entry.preprocess.std) == ((0.1, 0.2, 0.3), (1, 1, 0.5))
    ours, x = origin.load(), torch.rand(1, 3, 64, 96)
    record = weights.put(ours, weights.read(origin, None))
    with torch.no_grad():
        assert torch.equal(logits_of(ours(x)), network(x).logits)
    assert record["trained"]
    network.segformer.save_pretrained(tmp_path)  # the backbone alone
    (tmp_path / "config.json").write_text(config.to_json_string())
    with pytest.raises(UserError, match=r"has no weights for decode_head"):
        weights.read(find(f"hf:{tmp_path}"), None)


def test_a_library_that_is_not_there_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name, package in (("torchvision:x", "torchvision"), ("smp:x", "segmentation_models_pytorch"),
                          ("hf:x", "transformers")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UserError, match=r"pip install 'edgeseg\[libraries\]'"):
            find(name)
