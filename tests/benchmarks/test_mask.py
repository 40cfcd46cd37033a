"""The mask benchmark: what it counts and what it refuses. What it times is for people to read."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import mask
from runtime.errors import GateFailed, UserError


def test_a_cell_is_mixed_when_one_of_its_corners_differs():
    best = np.array([[0, 0, 0, 0], [0, 0, 0, 1]])  # three cells, the last one mixed
    logits = np.eye(2, dtype=np.float32)[best].transpose(2, 0, 1)
    assert mask.mixed_share(logits) == pytest.approx(1 / 3)


def test_the_table_names_every_method_and_no_pixel_is_wrong():
    contenders = mask.methods((24, 32), False, threads=1)
    frames = [logits[:, :8, :10] for logits in mask.drawn_logits(1)]
    table = mask.compare(contenders, frames, 1, False).splitlines()
    assert len(table) == 1 + len(contenders)
    assert all(line.endswith(" 0") for line in table[1:])


def test_a_wrong_mask_fails_the_benchmark():
    contenders = mask.methods((24, 32), False, threads=1)
    contenders[mask.OURS] = lambda logits: np.zeros((24, 32), np.uint8)
    with pytest.raises(GateFailed, match="more than rounding"):
        mask.compare(contenders, mask.drawn_logits(1), 1, False)


@pytest.mark.parametrize("content", [np.zeros((2, 3), np.float32), np.zeros((2, 3, 4)), None])
def test_a_file_without_logits_is_refused(tmp_path, content):
    path = tmp_path / "logits.npy"
    if content is None:
        path.write_bytes(b"not numpy")
    else:
        np.save(path, content)
    with pytest.raises(UserError, match=r"logits\.npy"):
        mask.logits_from_file(path)


def test_an_artifact_without_a_source_is_a_users_mistake(capsys):
    assert mask.main(["--artifact", "x.onnx"]) == 2
    assert "--source" in capsys.readouterr().err
