"""What a converter refuses is one line with the operator's name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from export.coreml.exporter import CoremlOptions, exported, model_from_torch
from export.onnx.exporter import onnx_from_torch
from export.quiet import refusing
from export.request import Request
from export.target import Job
from export.wrapper import traced
from runtime.artifact import open_artifact
from runtime.errors import UserError
from tests import tiny


class Unknown(tiny.TinyNetwork):
    """With an operator that no converter has."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(super().forward(x))


class Branching(tiny.TinyNetwork):
    """Whose values decide which way it goes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = super().forward(x)
        return y if y.sum() > 0 else -y


def of(network: torch.nn.Module) -> Request:
    return dataclasses.replace(tiny.request(), network=network.eval())


def test_torch_onnx_names_the_operator_that_it_lacks() -> None:
    with pytest.raises(UserError, match=r"torch\.onnx refuses tiny .*bessel_j0.*Try: python -m export\.ncnn"):
        onnx_from_torch(of(Unknown()))


def test_core_ml_names_the_operator_that_it_lacks() -> None:
    with pytest.raises(UserError, match=r"Core ML's converter refuses tiny .*bessel_j0.*Try: python -m export\.onnx"):
        model_from_torch(of(Unknown()), CoremlOptions())


def test_a_network_that_branches_on_values_is_refused() -> None:
    with pytest.raises(UserError, match=r"torch\.export refuses the network .*data-dependent.*same way for every"):
        traced(Branching().eval(), torch.zeros(1, 3, 32, 48))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError(), UserError("mine", try_="x")])
def test_what_is_not_the_converters_own_passes_as_it_is(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, refusing("It", "tiny"):
        raise error
    assert caught.value is error


class Aliased(tiny.TinyNetwork):
    """As attention in timm's networks leaves it; Core ML's converter has no such operator."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.aten.alias(super().forward(x))


def test_core_ml_takes_an_alias_for_what_it_is(tmp_path: Path) -> None:
    network = Aliased()
    network.load_state_dict(tiny.network().state_dict())
    artifact, _ = open_artifact(exported(Job(of(network), tmp_path), CoremlOptions()))
    assert artifact.verification[0].agreement >= 0.9999
