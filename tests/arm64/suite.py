"""What an Arm64 machine must do as this one does, and the rows that say whether it did."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from runtime.artifact import engine_sha256
from runtime.errors import UserError
from tests.arm64.root import interpreter

ROOT = Path(__file__).parent.parent.parent
LIMIT_S = 3600
FP32_AGREEMENT = 0.9999
"""Share of pixels on which FP32 must agree across machines, as between two engines on one (export/verify.py)."""

TESTS = {
    "artifact checks": ("test_artifact.py",),
    "frame → mask": ("test_segmenter.py", "test_preprocess.py", "test_overlay.py"),
    "video → overlay and masks": ("test_main.py", "-k", "becomes or raw_masks"),
    "streams with faults in them": ("test_reliability.py", "test_channel.py"),
}
"""The runtime's own tests that are run there, by what they show."""

BASE = """
import importlib.util, runtime, runtime.stream, runtime.segmenter, runtime.sessions.onnx, runtime.overlay, runtime.video
assert importlib.util.find_spec("openvino") is None, "the base install has openvino"
"""


@dataclass(frozen=True)
class Row:
    """One thing that was tried.

    Attributes:
        what: "import", "masks", or a key of `TESTS`.
        cpu: qemu's model, a key of `tests.arm64.root.CPUS`.
        engine, artifact: of masks; empty elsewhere.
        passed: whether it is as it must be; None where it is only reported.
        agreement: of masks: share of pixels with x86's class, 0..1; None elsewhere, and where no mask came.
        differing: of masks: pixels with another class than x86's.
        as_fp32: of INT8 masks: share of pixels with FP32's class there and here, which tells whose integer kernels err.
        said: how it ended, in words.
        inputs: a hash of what it depends on; a row with the same one need not be made again.
    """

    what: str
    cpu: str
    engine: str = ""
    artifact: str = ""
    passed: bool | None = None
    agreement: float | None = None
    differing: int | None = None
    as_fp32: tuple[float, float] | None = None
    said: str = ""
    inputs: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from other rows."""
        return self.what, self.cpu, self.engine, self.artifact, self.inputs


def key(what: str, cpu: str, engine: str = "", *files: Path) -> tuple[str, ...]:
    """The key of a row that is not made yet.

    Args:
        what, cpu, engine: as in `Row`.
        files: of masks, the artifact and the frames.
    """
    return what, cpu, engine, files[0].name if files else "", _inputs(files)


def _inputs(files: Sequence[Path]) -> str:
    """A hash of the runtime, of the machine, and of files; without files, of the tests that are run there."""
    patterns = ["runtime/**/*.py", "tests/arm64/*.txt", "tests/arm64/root.py",
                *(["tests/arm64/masks.py"] if files else ["tests/runtime/*.py", "tests/*.py", "tests/arm64/suite.py"])]
    digest = hashlib.sha256()
    for path in [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]:
        digest.update(path.read_bytes())
    for path in files:
        digest.update(engine_sha256(path).encode())
    return digest.hexdigest()[:16]


def imports(cpu: str) -> Row:
    """The base install alone can be imported there, and brings in no other engine."""
    done = _inside(interpreter(cpu, base=True), "-c", BASE)
    return Row("import", cpu, passed=done.returncode == 0, said=_last(done) or "the base install, nothing else",
               inputs=_inputs(()))


def masks(cpu: str, engine: str, artifacts: Sequence[Path], frames: Path, folder: Path) -> Iterator[Row]:
    """Masks of the emulated machine against this one's, for one engine.

    Args:
        artifacts: engine files of one precision, which their JSON names.
        frames: .npy, uint8 [N, H, W, 3] BGR.
        folder: where masks go.
    """
    here, there = folder / f"{engine}-x86-64", folder / f"{engine}-{cpu}"
    for path in (here, there):
        path.mkdir(parents=True, exist_ok=True)
    done = _run_masks([sys.executable], frames, here, engine, artifacts)
    if done.returncode:
        raise UserError(f"{engine} does not run here ({_last(done)}); expected masks to hold Arm64's against")
    for path in artifacts:
        (there / f"{path.name}.npy").unlink(missing_ok=True)
    done = _run_masks([interpreter(cpu)], frames, there, engine, artifacts)
    for path in artifacts:
        yield replace(_compared(path, cpu, engine, here, there, done), inputs=_inputs((path, frames)))


def _compared(path: Path, cpu: str, engine: str, here: Path, there: Path,
              done: subprocess.CompletedProcess[str]) -> Row:
    exact = "-fp32." in path.name
    if not (there / f"{path.name}.npy").exists():
        return Row("masks", cpu, engine, path.name, passed=False, said=f"ended with {done.returncode}: {_last(done)}")
    ours, theirs = (np.load(folder / f"{path.name}.npy") for folder in (here, there))
    agreement, differing = float((ours == theirs).mean()), int((ours != theirs).sum())
    said = f"{100 * agreement:.3f} % of pixels as on x86, {differing} differ"
    float_mask = here / f"{path.name.replace('-int8.', '-fp32.')}.npy"
    if exact or not float_mask.exists():
        return Row("masks", cpu, engine, path.name, agreement >= FP32_AGREEMENT if exact else None, agreement,
                   differing, said=said)
    reference = np.load(float_mask)
    as_fp32 = float((theirs == reference).mean()), float((ours == reference).mean())
    said += f"; as FP32: {100 * as_fp32[0]:.3f} %, x86 {100 * as_fp32[1]:.3f} %"
    return Row("masks", cpu, engine, path.name, None, agreement, differing, as_fp32, said)


def runtime_tests(cpu: str, folder: Path, done: Collection[tuple[str, ...]] = ()) -> Iterator[Row]:
    """The runtime's own tests, run there, but for those with a key in `done`; `folder` gets what pytest wrote."""
    for what, words in TESTS.items():
        if key(what, cpu) in done:
            continue
        files = [f"tests/runtime/{word}" if word.endswith(".py") else word for word in words]
        record = folder / f"{what.split()[0]}-{cpu}.xml"
        record.unlink(missing_ok=True)
        ended = _inside(interpreter(cpu), "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={record}", *files)
        count = dict(ElementTree.parse(record).getroot()[0].attrib) if record.exists() else {}
        ran = int(count.get("tests", 0)) - int(count.get("skipped", 0))
        said = f"{ran} tests, {count.get('failures', 0)} failed, {count.get('skipped', 0)} skipped" if count else ""
        yield Row(what, cpu, passed=ended.returncode == 0 and ran > 0, said=said or _last(ended), inputs=_inputs(()))


def _run_masks(python: Sequence[object], frames: Path, folder: Path, engine: str,
               artifacts: Sequence[Path]) -> subprocess.CompletedProcess[str]:
    return _inside(*python, "-m", "tests.arm64.masks", frames, folder, engine, *artifacts)


def _inside(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "EDGESEG_RELIABILITY_FRAMES": "40",
                   "EDGESEG_PATIENCE": "20"}
    return subprocess.run([str(word) for word in words], cwd=ROOT, env=environment, capture_output=True, text=True,
                          timeout=LIMIT_S, check=False)


def _last(done: subprocess.CompletedProcess[str]) -> str:
    return ((done.stderr or done.stdout).strip().splitlines() or [""])[-1]
