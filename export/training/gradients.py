"""Convolutions whose gradients are fast, and safe, on a CPU.

**Depthwise.** oneDNN has no optimised backward pass for dilated depthwise convolutions, nor for any depthwise one in
bfloat16: on LR-ASPP they took 0.95 of 1.15 s of all convolutions' backward passes (8 crops of 256×352, bf16, one
thread of an EPYC with avx512_bf16). Both gradients can be had from fast parts:

- by the input: a depthwise convolution with the kernel turned by 180° (the gradient spread out first, where the
  stride is 2);
- by the weight: one product and sum per tap of the kernel, which torch.compile fuses into loops over channels.

The step becomes twice as fast. (Compiling the whole loss was faster still, but in our setup torch 2.13's CPU
backend returned gradients that were all zero: not used.)

**1×1 with a stride.** oneDNN's backward pass corrupts memory in one such layer of DFANet (8 → 32 channels, stride 2,
channels last, torch 2.13 on an EPYC). Taking every second pixel first and convolving without a stride is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHAPES = 64
"""Different depthwise convolutions that one network may have; torch.compile makes a loop for each."""

NARROW = 32
"""Below that many channels the compiled loop is 6 to 9 times as fast in float32 as in bfloat16 (8 to 24 channels, one
thread): half a vector register is not worth its unpacking."""


class _Depthwise(torch.autograd.Function):
    """Depthwise convolution with odd square kernel and "same" padding. x [N, C, H, W], w [C, 1, k, k]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, stride: int, dilation: int,
                by_weight: Callable[..., Tensor]) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.stride, ctx.dilation, ctx.by_weight = stride, dilation, by_weight
        pad = w.shape[-1] // 2 * dilation
        return F.conv2d(x, w.to(x.dtype), None, stride, pad, dilation, x.shape[1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """By x: a convolution with the kernel turned round; by w: a sum over places."""
        x, w = ctx.saved_tensors
        gradient = gradients[0].contiguous(memory_format=torch.channels_last)
        wide = (x, gradient) if x.shape[1] >= NARROW else (x.float(), gradient.float())
        by_weight = ctx.by_weight(*wide, w.shape[-1], ctx.stride, ctx.dilation)
        if ctx.stride > 1:
            spread = torch.zeros_like(x, memory_format=torch.channels_last)
            spread[:, :, ::ctx.stride, ::ctx.stride] = gradient
            gradient = spread
        pad = w.shape[-1] // 2 * ctx.dilation
        by_input = F.conv2d(gradient, w.to(x.dtype).flip(2, 3), None, 1, pad, ctx.dilation, x.shape[1])
        return by_input, by_weight.to(w.dtype), None, None, None


def _by_weight(x: Tensor, gradient: Tensor, kernel: int, stride: int, dilation: int) -> Tensor:
    pad = kernel // 2 * dilation
    padded = F.pad(x, (pad, pad, pad, pad)).permute(0, 2, 3, 1)
    gradient = gradient.permute(0, 2, 3, 1)
    height, width = ((n - 1) * stride + 1 for n in gradient.shape[1:3])
    taps = [(padded[:, i:i + height:stride, j:j + width:stride].float() * gradient.float()).sum((0, 1, 2))
            for i in range(0, kernel * dilation, dilation) for j in range(0, kernel * dilation, dilation)]
    return torch.stack(taps, 1).view(-1, 1, kernel, kernel)


class Depthwise(nn.Conv2d):
    """`nn.Conv2d` with the gradients above."""

    by_weight: Callable[..., Tensor] = staticmethod(_by_weight)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, C, H / stride, W / stride], in bfloat16 under autocast, else in x's type."""
        if torch.is_autocast_enabled("cpu"):
            x = x.to(torch.bfloat16)
        with torch.autocast("cpu", enabled=False):
            y: Tensor = _Depthwise.apply(  # type: ignore[no-untyped-call]
                x, self.weight, self.stride[0], self.dilation[0], self.by_weight)
        return y


class Pointwise(nn.Conv2d):
    """A 1×1 `nn.Conv2d` that leaves out pixels before it convolves, rather than after."""

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] → [N, C', H / stride, W / stride]."""
        return F.conv2d(x[:, :, ::self.stride[0], ::self.stride[1]], self.weight, self.bias, groups=self.groups)


def use_cpu_gradients(network: nn.Module, *, compiled: bool) -> None:
    """Turn the network's convolutions into those above, in place; parameters and their names stay.

    Args:
        network: any.
        compiled: with `Depthwise`, whose gradient by the weight goes through torch.compile: needs a C++ compiler.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.stride != (1, 1):
            module.__class__ = Pointwise
    if compiled:
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, SHAPES)
        use_depthwise(network, torch.compile(_by_weight, dynamic=False))


def use_depthwise(network: nn.Module, by_weight: Callable[..., Tensor] = _by_weight) -> None:
    """Turn depthwise convolutions into `Depthwise`, in place.

    Args:
        network: any.
        by_weight: computes the gradient by the weight; compiled, or not, which is the same and slow.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            same = tuple(k // 2 * d for k, d in zip(module.kernel_size, module.dilation))
            if module.bias is None and module.padding == same and len(set(module.kernel_size)) == 1:
                module.__class__ = Depthwise
                module.by_weight = by_weight  # type: ignore[assignment]
