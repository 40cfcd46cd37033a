"""torchvision's segmentation networks: `torchvision:fcn_resnet50`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.data.label_sets import label_set
from export.origins import toml
from export.origins.library import file_name, named, need, probed
from export.origins.origin import Origin
from export.spec import Classes, ModelSpec, Preprocess
from runtime.errors import UserError

if TYPE_CHECKING:
    from torch import nn


def takes(target: str) -> bool:
    """Whether `target` names one of them."""
    return target.startswith("torchvision:")


def origin(target: str, stated: Path | None) -> Origin:
    """The network, its classes and normalisation from the meta data of its published weights.

    Raises:
        UserError: torchvision is not installed, or has no such network.
    """
    need(target, "torchvision")
    from torchvision import models

    name, options = named(target)
    known = models.list_models(module=models.segmentation)
    if name not in known:
        raise UserError(f"torchvision has no segmentation network {name!r}; known: {', '.join(known)}")

    def build(classes: int) -> nn.Module:
        # The published weights hold an auxiliary classifier, which training reads and a frame never reaches.
        aux = {} if name.startswith("lraspp") else {"aux_loss": True}
        return _without_upsampling(models.get_model(name, weights=None, weights_backbone=None, num_classes=classes,
                                                    **aux, **options))

    published = models.get_model_weights(name)
    meta, shown = published.DEFAULT.meta, published.DEFAULT.transforms()
    names = tuple(word.strip("_") for word in meta["categories"])
    size = (shown.resize_size[0], shown.resize_size[0])
    stride, multiple, _ = probed(build(len(names)).eval(), size)
    entry = ModelSpec(
        name=file_name(target), builder=target, preprocess=Preprocess(size, tuple(shown.mean), tuple(shown.std)),
        classes=Classes("torchvision", names, label_set(len(names), Classes("", (), ())).palette), stride=stride,
        align_corners=False, multiple=multiple, parameters=0, gmacs=0.0, counted_at=size, licence="BSD-3-Clause",
        paper="see torchvision's documentation", weights={w.name.lower(): _source(w.url) for w in published})
    return Origin(toml.spec(target, stated, entry) if stated else entry, build, stated_in=str(stated or target))


def _source(address: str) -> tuple[str, str]:
    """A published file's address, and the digits of its hash, which torchvision puts into its name."""
    digits = re.search(r"-([0-9a-f]{8,})\.pth$", address)
    assert digits is not None, address
    return address, digits[1]


def _without_upsampling(network: Any) -> nn.Module:
    """The same modules under the same names, up to the logits that `forward` would bring to the frame's size."""
    from torch import Tensor, nn

    class LowResolution(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, module in network.named_children():
                self.add_module(name, module)

        def forward(self, x: Tensor) -> Any:
            backbone, classifier = self.get_submodule("backbone"), self.get_submodule("classifier")
            features = backbone(x)
            return classifier(features.get("out", features))

    return LowResolution()
