"""torch → ncnn through pnnx, its converter: a traced network in, layers as text and weights out."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.quiet import refusing
from runtime.errors import UserError
from runtime.sessions.ncnn import BIN, PARAM, library

if TYPE_CHECKING:
    from export.request import Request


def ncnn_from_torch(wanted: Request, folder: Path) -> None:
    """Convert the network in its wrapper: float32 planes [3, H, W] BGR, 0..255 → `wanted.output`, [C, h, w].

    ncnn has no bytes and no channels-last layout inside; the session converts a frame on its way in.

    Args:
        wanted: the network; "fp16" stores the weights of convolutions and matrix products as float16.
        folder: gets `PARAM` and `BIN`.

    Raises:
        UserError: pnnx ends without a result, or leaves an operator that ncnn does not have; the message has its name.
    """
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="edgeseg-") as temporary:
        last_line = _converted(wanted, Path(temporary))
        for name in (PARAM, BIN):
            if not (made := Path(temporary, name)).is_file():
                raise UserError(f"pnnx refuses {wanted.spec.name} ({last_line}); expected operators that it supports",
                                try_=f"python -m export.onnx {wanted.spec.name}")
            shutil.copyfile(made, folder / name)
    if unknown := sorted(kind for kind in layers(folder) if library().layer_to_index(kind) < 0):
        raise UserError(f"ncnn has no {', '.join(unknown)}, which {wanted.spec.name} uses; expected layers that it has",
                        try_=f"python -m export.onnx {wanted.spec.name}")


def _converted(wanted: Request, folder: Path) -> str:
    """Trace, run pnnx in `folder`, and return the last line of its output."""
    import pnnx
    import torch

    from export.wrapper import Deployable, PictureInput

    module = PictureInput(Deployable(wanted.network, wanted.spec.preprocess, wanted.output, wanted.spec.align_corners))
    height, width = wanted.spec.preprocess.size
    with torch.no_grad(), warnings.catch_warnings(), refusing("torch.jit.trace", wanted.spec.name):
        warnings.simplefilter("ignore")  # of the tracer: that it is old, and of sizes that a fixed size makes constant
        trace: Any = torch.jit.trace  # which has no types
        trace(module.eval(), torch.zeros(1, 3, height, width), check_trace=False).save(folder / "traced.pt")
    half = int(wanted.precision == "fp16")
    run = subprocess.run([pnnx.EXEC_PATH, "traced.pt", f"inputshape=[1,3,{height},{width}]", f"fp16={half}",
                          f"ncnnparam={PARAM}", f"ncnnbin={BIN}"], cwd=folder, capture_output=True, text=True)
    return ((run.stderr + run.stdout).strip().splitlines() or [f"exit code {run.returncode}"])[-1][:200]


def layers(folder: Path) -> dict[str, int]:
    """How often each type of layer occurs, the most frequent first."""
    lines = (folder / PARAM).read_text(encoding="utf-8").splitlines()[2:]  # a magic number, and two counts
    return dict(Counter(line.split(maxsplit=1)[0] for line in lines).most_common())
