"""Element by element, along axes, and as products: MIL's arithmetic (ops reference: elementwise, activation, reduction,
linear). Every handler takes the parameters by MIL's names and applies MIL's defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F

from export.coreml.reference.read import unknown

Parameters = Mapping[str, Any]


def number(p: Parameters, key: str, default: float = 0.0) -> float:
    """A scalar parameter as a float."""
    value = p.get(key)
    return default if value is None else float(value)


def flag(p: Parameters, key: str, default: bool = False) -> bool:
    """A boolean parameter."""
    value = p.get(key)
    return default if value is None else bool(value)


def integers(p: Parameters, key: str) -> list[int]:
    """A list of integers; empty when the parameter is absent."""
    value = p.get(key)
    return [] if value is None else [int(v) for v in value.reshape(-1).tolist()]


def _unary(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Parameters], torch.Tensor]:
    return lambda p: function(p["x"])


def _binary(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[[Parameters], torch.Tensor]:
    return lambda p: function(p["x"], p["y"])


def _real_div(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    if not x.is_floating_point():
        raise unknown("real_div of integers, of which MIL does not say how it rounds,")
    return x / y


def _cast(p: Parameters) -> torch.Tensor:
    """Towards zero when floats become integers; the evaluator then rounds to, or checks, the declared type."""
    x: torch.Tensor = p["x"]
    if p["dtype"] == "bool":
        return x != 0
    if p["dtype"].startswith(("int", "uint")):
        return x.trunc().to(torch.int64)
    return x.to(torch.float32)


def _gelu(p: Parameters) -> torch.Tensor:
    x: torch.Tensor = p["x"]
    mode = p.get("mode", "EXACT")
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


def _sigmoid_hard(p: Parameters) -> torch.Tensor:
    x: torch.Tensor = p["x"]
    return (x * number(p, "alpha", 0.2) + number(p, "beta", 0.5)).clamp(0, 1)


def _thresholded_relu(p: Parameters) -> torch.Tensor:
    x: torch.Tensor = p["x"]
    return torch.where(x >= number(p, "alpha", 1.0), x, 0.0)


def _prelu(p: Parameters) -> torch.Tensor:
    x: torch.Tensor = p["x"]
    return torch.where(x > 0, x, x * p["alpha"].reshape(-1, *[1] * (x.ndim - 2)))


def _clamped_relu(p: Parameters) -> torch.Tensor:
    x: torch.Tensor = p["x"]
    return torch.where(x >= 0, x, number(p, "alpha") * x).clamp(max=number(p, "beta"))


def _axes(p: Parameters) -> list[int]:
    return integers(p, "axes") or list(range(p["x"].ndim))


def _reduce(function: Callable[..., torch.Tensor]) -> Callable[[Parameters], torch.Tensor]:
    return lambda p: function(p["x"], dim=_axes(p), keepdim=flag(p, "keep_dims"))


def _reduce_arg(function: Callable[..., torch.Tensor]) -> Callable[[Parameters], torch.Tensor]:
    """Among equals the first counts, as in torch and numpy; MIL leaves it open."""
    return lambda p: function(p["x"], dim=int(number(p, "axis", -1)), keepdim=flag(p, "keep_dims"))


def _linear(p: Parameters) -> torch.Tensor:
    return F.linear(p["x"], p["weight"], p.get("bias"))


def _matmul(p: Parameters) -> torch.Tensor:
    x = p["x"].mT if flag(p, "transpose_x") else p["x"]
    y = p["y"].mT if flag(p, "transpose_y") else p["y"]
    return torch.matmul(x, y)


def _select(p: Parameters) -> torch.Tensor:
    return torch.where(p["cond"], p["a"], p["b"])


HANDLERS: Mapping[str, Callable[[Parameters], Any]] = {
    "abs": _unary(torch.abs), "ceil": _unary(torch.ceil), "floor": _unary(torch.floor), "round": _unary(torch.round),
    "sign": _unary(torch.sign), "square": _unary(torch.square), "sqrt": _unary(torch.sqrt), "exp": _unary(torch.exp),
    "exp2": _unary(torch.exp2), "erf": _unary(torch.erf), "sin": _unary(torch.sin), "cos": _unary(torch.cos),
    "tanh": _unary(torch.tanh), "logical_not": _unary(torch.logical_not), "identity": _unary(lambda x: x),
    "log": lambda p: torch.log(p["x"] + number(p, "epsilon", 1e-45)),
    "rsqrt": lambda p: torch.rsqrt(p["x"] + number(p, "epsilon", 1e-12)),
    "inverse": lambda p: 1 / (p["x"] + number(p, "epsilon", 1e-4)),
    "clip": lambda p: p["x"].clamp(number(p, "alpha"), number(p, "beta")),
    "threshold": lambda p: p["x"].clamp(min=number(p, "alpha")),
    "cast": _cast,
    "add": _binary(torch.add), "sub": _binary(torch.sub), "mul": _binary(torch.mul), "real_div": _binary(_real_div),
    "floor_div": _binary(torch.floor_divide), "mod": _binary(torch.remainder), "pow": _binary(torch.pow),
    "maximum": _binary(torch.maximum), "minimum": _binary(torch.minimum), "equal": _binary(torch.eq),
    "not_equal": _binary(torch.ne), "greater": _binary(torch.gt), "greater_equal": _binary(torch.ge),
    "less": _binary(torch.lt), "less_equal": _binary(torch.le), "logical_and": _binary(torch.logical_and),
    "logical_or": _binary(torch.logical_or), "logical_xor": _binary(torch.logical_xor),
    "select": _select,
    "relu": _unary(torch.relu), "relu6": _unary(lambda x: x.clamp(0, 6)), "sigmoid": _unary(torch.sigmoid),
    "silu": _unary(F.silu), "softplus": _unary(F.softplus), "softsign": _unary(F.softsign), "gelu": _gelu,
    "leaky_relu": lambda p: F.leaky_relu(p["x"], number(p, "alpha", 0.01)),
    "elu": lambda p: F.elu(p["x"], number(p, "alpha", 1.0)),
    "linear_activation": lambda p: number(p, "alpha") * p["x"] + number(p, "beta"),
    "scaled_tanh": lambda p: number(p, "alpha", 1.0) * torch.tanh(number(p, "beta", 1.0) * p["x"]),
    "prelu": _prelu, "clamped_relu": _clamped_relu, "sigmoid_hard": _sigmoid_hard,
    "thresholded_relu": _thresholded_relu, "softmax": lambda p: p["x"].softmax(int(number(p, "axis", -1))),
    "reduce_mean": _reduce(torch.mean), "reduce_sum": _reduce(torch.sum), "reduce_max": _reduce(torch.amax),
    "reduce_min": _reduce(torch.amin), "reduce_log_sum_exp": _reduce(torch.logsumexp),
    "reduce_l2_norm": _reduce(torch.linalg.vector_norm), "reduce_argmax": _reduce_arg(torch.argmax),
    "reduce_argmin": _reduce_arg(torch.argmin),
    "linear": _linear, "matmul": _matmul, "einsum": lambda p: torch.einsum(p["equation"], *p["values"]),
}
