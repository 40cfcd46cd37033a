"""What can be asked of a result: areas, confidence, a drawing; the same of a single frame and of a stream's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from runtime import Segmenter, Stream
from runtime.artifact import OutputKind
from runtime.errors import UserError
from tests import colours

SIZE = (32, 96)


def halves() -> np.ndarray:
    """A picture whose left third is blue and the rest red."""
    frame = np.zeros((*SIZE, 3), np.uint8)
    frame[:, :32, 0], frame[:, 32:, 2] = 200, 200
    return frame


def test_areas_count_the_pixels_of_every_class_those_that_are_absent_too(artifact):
    with Segmenter.open(artifact) as segmenter:
        result = segmenter(halves())
    assert result.areas == {"blue": 32 * 32, "green": 0, "red": 32 * 64}
    assert sum(result.areas.values()) == result.mask.size


@pytest.mark.parametrize("output", [OutputKind.LOW, OutputKind.LOGITS])
def test_confidence_is_the_softmax_of_the_interpolated_logits_at_the_frames_size(tmp_path, output):
    frame = np.random.default_rng(0).integers(0, 6, (*SIZE, 3), np.uint8)
    with Segmenter.open(colours.artifact(tmp_path, output=output)) as segmenter:
        result = segmenter(frame)
        logits = torch.from_numpy(segmenter.infer(segmenter.prepare(frame)))
    planes = logits.permute(2, 0, 1) if output is OutputKind.LOW else logits
    full = torch.nn.functional.interpolate(planes[None], SIZE, mode="bilinear")[0]
    assert result.confidence.dtype == np.float32
    np.testing.assert_allclose(result.confidence, full.softmax(0).amax(0), atol=1e-5)
    assert np.ptp(result.confidence) > 0.1  # a picture on which confidence does vary


def test_confidence_of_an_artifact_that_returns_classes_is_refused_with_what_to_export(tmp_path):
    with Segmenter.open(colours.artifact(tmp_path, output=OutputKind.CLASSES)) as segmenter:
        result = segmenter(halves())
    with pytest.raises(UserError, match=r"returns classes.*export\.onnx colours --output low"):
        _ = result.confidence


def test_a_drawing_is_the_frame_tinted_in_the_class_colours(artifact):
    frame = halves().repeat(6, axis=0).repeat(6, axis=1)  # room for the legend below
    with Segmenter.open(artifact) as segmenter:
        result = segmenter(frame)
    drawn = result.draw(alpha=1.0)
    assert drawn.shape == frame.shape
    assert drawn[0, 0].tolist() == [255, 0, 0]  # blue, in BGR
    assert drawn[0, -1].tolist() == [0, 0, 255]
    assert result.draw(alpha=0.0)[0, 0].tolist() == [200, 0, 0]
    assert not np.shares_memory(drawn, frame)


def test_a_streams_results_answer_the_same_and_refuse_confidence_where_the_network_did_not_look(artifact):
    first, second = Stream(artifact, [halves(), halves()], every=2, draw=False)
    assert first.areas == second.areas == {"blue": 32 * 32, "green": 0, "red": 32 * 64}
    assert first.confidence.shape == SIZE
    assert np.array_equal(first.draw(), second.draw())
    with pytest.raises(UserError, match="made from an earlier frame's"):
        _ = second.confidence
