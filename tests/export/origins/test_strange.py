"""Networks as strangers write them: what cannot be exported is refused in one line with the right reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from export.request import Request, request
from runtime.errors import UserError


class Plain(nn.Module):
    """Two convolutions; `change` is what makes it strange."""

    def __init__(self, classes: int, change: Callable[[Tensor], Any] = lambda y: y) -> None:
        super().__init__()
        self.stem, self.classifier, self.change = nn.Conv2d(3, 4, 3, 4, 1), nn.Conv2d(4, classes, 1), change

    def forward(self, x: Tensor) -> Any:
        return self.change(self.classifier(self.stem(x).relu()))


class Diverged(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x) * float("nan")


class Lookup(Plain):
    def forward(self, x: Tensor) -> Any:
        return {}["stage4"]


class Typo(Plain):
    def forward(self, x: Tensor) -> Any:
        return self.clasifier(self.stem(x))


class Labels(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).argmax(1, keepdim=True).expand(-1, 3, -1, -1)


class InDouble(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x).double()


class Training(Plain):
    """Its batch norm never leaves the training."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.norm = nn.BatchNorm2d(4)

    def train(self, mode: bool = True) -> Training:
        super().train(mode)
        self.norm.train()
        return self


class Hooked(Plain):
    """A hook keeps a map in the network that it was made for, not in a copy."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.kept = dict[str, Tensor]()
        self.stem.register_forward_hook(lambda module, inputs, value: self.kept.update(stem=value))

    def forward(self, x: Tensor) -> Any:
        self.stem(x)
        return self.classifier(self.kept["stem"])


class Uncopied(Plain):
    """Holds what cannot be copied."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.numbers = iter([]) if classes < 0 else (n for n in range(3))


class ReturnsNothingOfTrain(Plain):
    def train(self, mode: bool = True) -> Any:
        super().train(mode)


class KeepsAProduct(Plain):
    """A tensor that is computed of parameters, and not a parameter itself."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.twice = self.classifier.weight * 2

    def forward(self, x: Tensor) -> Any:
        return nn.functional.conv2d(self.stem(x), self.twice)


class ReadsValues(Plain):
    """As timm's and others' stochastic depth is written."""

    def __init__(self, classes: int) -> None:
        super().__init__(classes)
        self.rates = [rate.item() for rate in torch.linspace(0, 0.1, 3)]


def cuda(classes: int) -> nn.Module:
    raise AssertionError("Torch not compiled with CUDA enabled")  # what .cuda() says


def backbone(classes: int) -> nn.Module:
    raise FileNotFoundError(2, "No such file", "resnet18.pth")


def scripted(classes: int) -> nn.Module:
    return torch.jit.trace(nn.Conv2d(3, classes, 4, 4), torch.zeros(1, 3, 8, 8))  # type: ignore[no-any-return]


def compiled(classes: int) -> nn.Module:
    network = Plain(classes)
    network.add_module("_orig_mod", Plain(classes))  # as torch.compile's, which takes seconds to import
    return network


def meta(classes: int) -> nn.Module:
    return Plain(classes).to("meta")


def three(classes: int) -> nn.Module:
    """Knows its own number of classes."""
    return Plain(3)


@pytest.fixture
def requested(tmp_path: Path) -> Callable[..., Request]:
    """A request for one of the networks above."""
    stated = tmp_path / "strange.toml"
    stated.write_text('size = [16, 24]\nclasses = ["a", "b", "c"]\nstride = 4\n', encoding="utf-8")

    def made(kind: Callable[..., Any], weights: str = "none") -> Request:
        return request(f"{__name__}:{kind.__name__}@{stated}", weights=weights)
    return made


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit
@pytest.mark.parametrize(("kind", "message"), [
    (Diverged, "logits that are not finite"),
    (Lookup, r"does not take a frame of 16x24 \(KeyError 'stage4'\); expected a forward of one float32"),
    (Typo, "no attribute 'clasifier'"),
    (Labels, r"numbers of type torch.int64; expected logits, from before an argmax"),
    (Training, r"stays in train mode after .eval\(\) \(norm\)"),
    (Hooked, "hooks into the original of a copy"),
    (Uncopied, "a copy of .* does not run .*generator"),
    (cuda, r"cannot be called .*not compiled with CUDA.*builds on the CPU"),
    (backbone, "cannot be called .*resnet18.pth"),
    (scripted, "torch.jit or torch.compile made; expected the plain"),
    (compiled, "torch.jit or torch.compile made; expected the plain"),
    (meta, "on meta; expected it on the CPU"),
])
def test_the_reason_of_a_refusal_is_the_right_one(requested: Callable[..., Request], kind: Callable[..., Any],
                                                  message: str) -> None:
    with pytest.raises(UserError, match=message):
        requested(kind)


@pytest.mark.parametrize("kind", [InDouble, ReturnsNothingOfTrain, KeepsAProduct])
def test_what_can_be_exported_is_not_refused(requested: Callable[..., Request], kind: Callable[..., Any]) -> None:
    assert not requested(kind).network.training


@pytest.mark.parametrize("kind", [ReadsValues, three])
def test_weights_of_a_builder_that_reads_values_or_knows_its_classes_are_loaded(
        requested: Callable[..., Request], tmp_path: Path, kind: Callable[..., Any]) -> None:
    network = kind(3)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    loaded = requested(kind, str(tmp_path / "w.pth")).network
    assert torch.equal(loaded.state_dict()["stem.weight"], network.state_dict()["stem.weight"])


@pytest.mark.parametrize(("text", "message"), [
    ("import no_such_package", "No module named 'no_such_package'.*Try: python -c 'import broken'"),
    ("raise RuntimeError('operator nms does not exist')", "nms does not exist.*Try: python -c 'import broken'"),
    ("x = None.y", "'NoneType' object has no attribute 'y'"),
])
def test_a_module_that_cannot_be_imported_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str,
                                                   message: str) -> None:
    (tmp_path / "broken.py").write_text(text, encoding="utf-8")
    (tmp_path / "x.toml").write_text('size = [16, 24]\nclasses = ["a", "b"]\n', encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=message):
        request(f"broken:network@{tmp_path / 'x.toml'}", weights="none")
