"""What a user's own conversion starts from: the network as its authors publish it, with nothing of ours around it.

A target that can be converted to in that way holds `export/<name>/stock.py` with `converted(network, x, path)`: the
maker's converter as its documentation calls it.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from export.origins.outputs import logits_of


class Plain(nn.Module):
    """Float [1, 3, H, W], normalised by the caller → float logits.

    Args:
        network: used as it is.
        align_corners: the convention of the upsampling; None to return the logits at the network's stride.
    """

    def __init__(self, network: nn.Module, align_corners: bool | None) -> None:
        super().__init__()
        self.network, self.align_corners = network, align_corners

    def forward(self, x: Tensor) -> Tensor:
        """[1, C, H, W], or [1, C, h, w]."""
        logits = logits_of(self.network(x))
        if self.align_corners is None:
            return logits
        return functional.interpolate(logits, size=x.shape[2:], mode="bilinear", align_corners=self.align_corners)
