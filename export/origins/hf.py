"""transformers' semantic segmentation networks: `hf:FOLDER`, as `save_pretrained` wrote it, or `hf:OWNER/NAME`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.data.label_sets import label_set
from export import checkpoint
from export.origins import toml
from export.origins.library import file_name, named, need, probed
from export.origins.origin import Checkpoint, Origin
from export.quiet import reason
from export.spec import Classes, ModelSpec, Preprocess
from runtime.decode import Side, decoded, parsed, read
from runtime.errors import UserError

if TYPE_CHECKING:
    from torch import nn

FILES = ("*.json", "*.safetensors")
"""What is fetched of a network on the hub: no code, no pickles."""


def takes(target: str) -> bool:
    """Whether `target` names one of them."""
    return target.startswith("hf:")


def origin(target: str, stated: Path | None) -> Origin:
    """The network, its classes from its configuration, its normalisation from its image processor, its weights.

    Raises:
        UserError: transformers is not installed, or the folder holds no such network.
    """
    need(target, "transformers")
    from transformers import AutoConfig, AutoModelForSemanticSegmentation
    from transformers.utils import logging as remarks

    hush: Any = remarks.disable_progress_bar  # untyped, as below; loading takes a second
    hush()
    folder = _folder(named(target)[0])
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder} holds no network that transformers knows ({reason(error)}); expected what "
                        "save_pretrained wrote") from error

    def build(classes: int) -> nn.Module:
        own = AutoConfig.from_pretrained(folder, trust_remote_code=False, num_labels=classes)
        own.use_pretrained_backbone = False
        try:
            make: Any = AutoModelForSemanticSegmentation.from_config  # untyped where transformers is installed
            network: nn.Module = make(own)
        except ValueError as error:
            raise UserError(f"{folder} holds a {config.model_type!r} ({reason(error)}); expected a network for "
                            "semantic segmentation") from error
        return network

    def own_weights() -> Checkpoint:
        return _weights(folder, build(config.num_labels), config.num_labels)

    names = tuple(str(config.id2label[index]) for index in range(config.num_labels))
    preprocess = _preprocess(folder, config)
    stride, multiple, _ = probed(build(len(names)).eval(), preprocess.size)
    entry = ModelSpec(
        name=file_name(f"hf-{folder.name}"), builder=target, preprocess=preprocess,
        classes=Classes(folder.name, names, label_set(len(names), Classes("", (), ())).palette), stride=stride,
        align_corners=False, multiple=multiple, parameters=0, gmacs=0.0, counted_at=preprocess.size,
        licence="not stated", paper="not stated")
    return Origin(toml.spec(target, stated, entry) if stated else entry, build, stated_in=str(stated or target),
                  own_weights=own_weights)


def _folder(name: str) -> Path:
    """The folder `name`, or the one that the hub's copy of `name` is fetched into."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES)))
    except Exception as error:  # the hub's errors are of many kinds
        raise UserError(f"hf:{name} is no folder here, and cannot be fetched ({reason(error)})",
                        try_="hf:FOLDER with what save_pretrained wrote") from error


def _weights(folder: Path, network: nn.Module, classes: int) -> Checkpoint:
    """The folder's weights under the names that the network has in this version of the library.

    Raises:
        UserError: there are none, or some of the network's are missing and would stay random.
    """
    held = checkpoint.files(folder)
    if not held:
        raise UserError(f"{folder} holds no weights; expected one of {', '.join(checkpoint.FOLDERS)}")
    digest = checkpoint.sha256(held)
    checkpoint.tensors(held)  # refuses what is damaged, not finite or would run code
    loaded, info = type(network).from_pretrained(folder, output_loading_info=True)  # type: ignore[attr-defined]
    if info["missing_keys"]:
        raise UserError(f"{folder} has no weights for {checkpoint.few(sorted(info['missing_keys']))}; expected those "
                        "of a network trained for semantic segmentation")
    return Checkpoint(folder.name, dict(loaded.state_dict()), digest, "", classes)


@dataclass(frozen=True)
class ImageProcessor:
    """What is read of an image processor's file: sizes are a number of pixels, or "height" and "width" or the
    "shortest_edge"."""

    size: Side | Mapping[str, Side] | None = None
    crop_size: Side | Mapping[str, Side] | None = None
    do_center_crop: bool = False
    do_normalize: bool = True
    do_flip_channel_order: bool = False
    image_mean: tuple[float, float, float] | None = None
    image_std: tuple[float, float, float] | None = None


def _preprocess(folder: Path, config: Any) -> Preprocess:
    """Size and normalisation from the image processor's file; without one, the configuration's size and ImageNet's."""
    path = folder / "preprocessor_config.json"
    try:
        stated = decoded(ImageProcessor, parsed(read(path)), whole=False, part=True) if path.is_file() else None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); expected what save_pretrained wrote") from error
    edge = getattr(config, "image_size", None)
    size = _size(edge or 512)
    if stated is None:
        return Preprocess(size)
    chosen = stated.crop_size if stated.do_center_crop else stated.size
    size = _size(chosen) if chosen and not isinstance(edge, int) else size
    default = Preprocess(size)
    mean, std = (stated.image_mean or default.mean, stated.image_std or default.std)
    if not stated.do_normalize or (stated.do_flip_channel_order and stated.image_mean is None):
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return Preprocess(size, mean, std, "bgr" if stated.do_flip_channel_order else "rgb")


def _size(stated: Any) -> tuple[int, int]:
    """(H, W) of any of the forms in which a processor or a configuration has it."""
    if isinstance(stated, Mapping):
        edge = stated.get("shortest_edge", 512)
        return stated.get("height", edge), stated.get("width", edge)
    return (stated, stated) if isinstance(stated, int) else (stated[0], stated[1])
