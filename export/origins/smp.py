"""segmentation_models_pytorch, timm's encoders ("tu-…") among them: `smp:Unet?encoder_name=mobilenet_v2`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.origins import toml
from export.origins.library import file_name, named, need, probed
from export.origins.origin import Origin
from export.spec import VOC, ModelSpec, Preprocess
from runtime.errors import UserError

if TYPE_CHECKING:
    from torch import nn

SIZES = ((512, 512), (224, 224), (384, 384))
"""Input (H, W); transformers of a fixed size are made for one of the others."""
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
OTHERWISE = {"inception": HALF, "xception": HALF, "dpn": ((124 / 255, 117 / 255, 104 / 255), (0.2348, 0.2348, 0.2348))}
"""Beginnings of encoders' names → mean and std, where these are not ImageNet's (the library's encoder files)."""


def takes(target: str) -> bool:
    """Whether `target` names one of its networks."""
    return target.startswith("smp:")


def origin(target: str, stated: Path | None) -> Origin:
    """The network, with the normalisation of its encoder. The library names no classes: 21 unless `--classes`, the
    weights or a TOML say otherwise.

    Raises:
        UserError: the library is not installed, has no such network, or does not take the options.
    """
    need(target, "segmentation_models_pytorch")
    import segmentation_models_pytorch as smp

    name, options = named(target)
    known = sorted(kind.__name__ for kind in smp.MODEL_ARCHITECTURES_MAPPING.values())
    if name not in known:
        raise UserError(f"segmentation_models_pytorch has no network {name!r}; known: {', '.join(known)}")
    corners = False

    def build(classes: int) -> nn.Module:
        nonlocal corners
        try:
            network: nn.Module = getattr(smp, name)(**{"encoder_weights": None, "classes": classes, **options})
        except (TypeError, ValueError, KeyError) as error:
            raise UserError(f"{target} cannot be built ({error}); expected options of smp.{name}") from error
        corners = _cut_upsampling(network)
        return network

    stride, multiple, size = probed(build(len(VOC.names)).eval(), *SIZES)
    entry = ModelSpec(
        name=file_name(target), builder=target, preprocess=_preprocess(str(options.get("encoder_name", "")), size),
        classes=VOC, stride=stride, align_corners=corners, multiple=multiple, parameters=0, gmacs=0.0,
        counted_at=size, licence="MIT", paper="see the library's documentation")
    return Origin(toml.spec(target, stated, entry) if stated else entry, build, stated_in=str(stated or target))


def _cut_upsampling(network: Any) -> bool:
    """Take the bilinear upsampling out of a network's head, where it is a module of its own, and return its
    `align_corners`; the mask is computed from low-resolution logits."""
    from torch import nn

    head = network.segmentation_head
    if not isinstance(head, nn.Sequential) or not isinstance(head[1], nn.Upsample):
        return False
    corners = bool(head[1].align_corners)
    head[1] = nn.Identity()
    return corners


def _preprocess(encoder: str, size: tuple[int, int]) -> Preprocess:
    """What the encoder's published weights were trained with: timm says it of its own; of the library's, all but a few
    expect ImageNet's."""
    if encoder.startswith("tu-"):
        import timm

        found: Any = timm.get_pretrained_cfg(encoder.removeprefix("tu-"), allow_unregistered=False)
        return Preprocess(size, tuple(found.mean), tuple(found.std)) if found else Preprocess(size)
    beginning = next((word for word in OTHERWISE if encoder.startswith(word)), "")
    return Preprocess(size, *OTHERWISE[beginning]) if beginning else Preprocess(size)
