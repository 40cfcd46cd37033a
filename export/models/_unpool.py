"""Max pooling that remembers where its maxima were, and the unpooling that puts values back there.

`nn.MaxUnpool2d` scatters by index, which TensorRT, Core ML and LiteRT do not have. Over windows of 2x2 the same is
expressed by four maps of zeros and ones and products with them, in operators that every engine has; the results are
equal, ties included (the first of equal cells counts, in reading order, as in torch).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """Maxima of windows of 2x2, and where they were.

    Args:
        x: float [N, C, 2h, 2w].

    Returns:
        float [N, C, h, w], and float [N, C, 4, h, w] with a one for the window's cell (in reading order) that is
        its maximum and zeros for the others.
    """
    highest = F.max_pool2d(x, 2, 2)  # the stride is explicit: Core ML's converter has no default
    left = torch.ones_like(highest)  # for cells after this one: whether no cell before was the maximum
    places = []
    for row, column in ((0, 0), (0, 1), (1, 0)):
        here = (x[:, :, row::2, column::2] >= highest).to(x.dtype) * left
        places.append(here)
        left = left - here
    return highest, torch.stack((*places, left), 2)


def unpool(x: Tensor, places: Tensor) -> Tensor:
    """Each value back to the place of its maximum, zeros elsewhere.

    Args:
        x: float [N, C, h, w].
        places: as `pool` returned them.

    Returns:
        float [N, C, 2h, 2w].
    """
    return F.pixel_shuffle((x.unsqueeze(2) * places).flatten(1, 2), 2)
