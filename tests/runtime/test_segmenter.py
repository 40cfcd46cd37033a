"""A frame in, a mask at the frame's own size out, whatever the engine returns."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import weakref

import numpy as np
import pytest

from runtime import Segmenter
from runtime.artifact import OutputKind, engine_sha256, json_path, open_artifact, write_artifact
from runtime.errors import UserError
from runtime.segmenter import STAGES
from tests import colours
from tests.conftest import ROOT


@pytest.mark.parametrize("output", list(OutputKind))
@pytest.mark.parametrize("size", [(16, 48), (32, 96), (33, 97), (8, 24)])
def test_the_mask_is_the_pictures_class_at_the_pictures_size(tmp_path, output, size):
    with Segmenter.open(colours.artifact(tmp_path, output=output)) as segmenter:
        result = segmenter(colours.numbered(1234, size))
    assert result.mask.shape == size
    assert result.mask.dtype == np.uint8
    assert colours.number_of(result.mask) == 1234


def test_each_stage_is_timed_and_masks_are_memory_of_their_own(artifact):
    with Segmenter.open(artifact) as segmenter:
        first = segmenter(colours.numbered(1))
        kept = first.mask.copy()
        second = segmenter(colours.numbered(4095))
    assert tuple(first.stages_ms) == STAGES
    assert min(first.stages_ms.values()) >= 0
    assert np.array_equal(first.mask, kept)
    assert not np.shares_memory(first.mask, second.mask)


def test_running_an_engine_leaves_nothing_in_the_users_home(artifact, tmp_path):
    code = "import sys; from runtime import Segmenter; Segmenter.open(sys.argv[1]).close()"
    env = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"} | {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code, artifact], cwd=ROOT, env=env, check=True, timeout=60)
    assert list(tmp_path.rglob("*")) == []


def test_closing_frees_the_engine_and_a_second_time_is_no_error(artifact):
    segmenter = Segmenter.open(artifact)
    engine = weakref.ref(segmenter._session._session)
    assert engine() is not None
    segmenter.close()
    assert engine() is None
    segmenter.close()


def test_an_artifact_for_an_engine_that_is_not_here_is_refused_with_those_that_are(artifact, tmp_path):
    shutil.copy(artifact, tmp_path)
    path = tmp_path / artifact.name
    described = open_artifact(artifact)[0]
    object.__setattr__(described, "target", "abacus")
    write_artifact(described, path)
    with pytest.raises(UserError, match=r"abacus.*onnx"):
        Segmenter.open(path)


def test_a_truncated_engine_is_refused_by_the_session_too_in_one_line(artifact, tmp_path):
    path = tmp_path / artifact.name
    path.write_bytes(artifact.read_bytes()[:200])
    described = open_artifact(artifact)[0]
    object.__setattr__(described, "sha256", engine_sha256(path))  # as if the JSON had been made from the damaged file
    write_artifact(described, path)
    assert json_path(path).exists()
    with pytest.raises(UserError, match="cannot load") as caught:
        Segmenter.open(path)
    assert "\n" not in str(caught.value)
