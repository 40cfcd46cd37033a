"""The session's own logic over stand-ins for CUDA and TensorRT: no claim about a GPU is made here."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest

from runtime.artifact import Artifact, OutputKind, TensorInfo
from runtime.errors import UserError
from runtime.preprocess import Preprocess
from runtime.sessions import _cuda as cuda
from runtime.sessions import trt
from runtime.sessions._plan import plan_name
from tests.nvidia import Code, FakeCuda, FakeTensorrt

ARTIFACT = Artifact(
    name="tiny", target="trt", precision="fp16", file="tiny.plan", sha256="ab" * 32,
    input=TensorInfo("frame", (1, 4, 6, 3), "uint8", "NHWC"), output=TensorInfo("classes", (1, 4, 6), "uint8", "NHW"),
    output_kind=OutputKind.CLASSES, stride=8, align_corners=False, preprocess=Preprocess((4, 6)),
    classes=("road", "sky"), palette=((1, 2, 3), (4, 5, 6)), weights={"trained": False}, tools={},
    details={"library": "tensorrt_rtx", "version": "1.7.1.116"})
DYNAMIC = dataclasses.replace(ARTIFACT, input=dataclasses.replace(ARTIFACT.input, shape=(1, 0, 0, 3)))
NATIVE = dataclasses.replace(ARTIFACT, details={"library": "tensorrt", "version": "10.3.0",
                                                "compute_capabilities": ["8.7"]})


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """Opens ARTIFACT, or another, on a machine that is described by the stand-ins' arguments."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def start(artifact: Artifact = ARTIFACT, gpu: FakeCuda | None = None, **library: object):
        gpu = gpu or FakeCuda()
        name = str(library.pop("says", plan_name(artifact)))
        shape = tuple(size or -1 for size in artifact.input.shape)
        fake = FakeTensorrt(gpu, name, **{"shape": shape, **library})  # type: ignore[arg-type]
        monkeypatch.setattr(cuda, "library", lambda: gpu)
        monkeypatch.setattr(trt, "import_library", lambda name: fake)
        plan = tmp_path / "tiny.plan"
        plan.write_bytes(b"plan")
        session = trt.open(artifact, plan)
        return session, gpu, fake
    return start


def frame(value: int, size: tuple[int, int] = (4, 6)) -> np.ndarray:
    return np.full((1, *size, 3), value, np.uint8)


def test_a_frame_is_one_graph_launch_and_no_memory_is_made_for_it(opened):
    session, gpu, _ = opened()
    assert session.cuda_graph
    gpu.calls.clear()
    assert (session.run(frame(5)) == 250).all()
    assert (session.run(frame(55)) == 200).all()
    assert gpu.calls == ["cudaGraphLaunch", "cudaStreamSynchronize"] * 2


@pytest.mark.parametrize(("library", "gpu"), [
    ({"capturable": False}, FakeCuda()), ({}, FakeCuda(cudaGraphInstantiate=Code.cudaErrorStreamCaptureUnsupported)),
    ({}, FakeCuda(cudaStreamEndCapture=Code.cudaErrorStreamCaptureUnsupported))])
def test_where_capture_fails_frames_still_run_and_a_warning_says_why(opened, caplog, library, gpu):
    with caplog.at_level(logging.WARNING):
        session, _, _ = opened(gpu=gpu, **library)
    gpu.recording = None
    assert not session.cuda_graph
    assert "no CUDA graph (" in caplog.text
    gpu.calls.clear()
    assert (session.run(frame(5)) == 250).all()
    assert gpu.calls == ["cudaMemcpyAsync", "execute_async_v3", "cudaMemcpyAsync", "cudaStreamSynchronize"]


def test_the_output_is_overwritten_by_the_next_frame_as_the_session_says(opened):
    session, _, _ = opened()
    first = session.run(frame(5))
    session.run(frame(55))
    assert session.reuses_output
    assert (first == 200).all()


def test_closing_gives_all_memory_back_and_a_second_close_does_nothing(opened):
    session, gpu, _ = opened()
    assert len(gpu.memory) == 4  # host and device, input and output
    session.close()
    session.close()
    assert gpu.memory == {}
    assert gpu.calls.count("cudaStreamDestroy") == 1


def test_a_dynamic_plan_takes_a_new_size_and_makes_buffers_only_then(opened):
    session, gpu, _ = opened(DYNAMIC)
    assert session.run(frame(5)).shape == (1, 4, 6)
    assert session.run(frame(5, (8, 8))).shape == (1, 8, 8)
    gpu.calls.clear()
    assert (session.run(frame(1, (8, 8))) == 254).all()
    assert "cudaMalloc" not in gpu.calls
    assert len(gpu.memory) == 4
    with pytest.raises(UserError, match=r"shape \(1, 9, 9, 3\) was received; the plan takes \(1, 2, 2, 3\) to"):
        session.run(frame(1, (9, 9)))


def test_kernels_compiled_by_rtx_are_kept_between_starts(opened, tmp_path):
    _, _, first = opened()
    assert first.loaded == []
    assert [path.read_bytes() for path in (tmp_path / "cache" / "edgeseg").iterdir()] == [b"kernels"]
    _, _, second = opened()
    assert second.loaded == [b"kernels"]


def test_a_cache_of_another_driver_is_reported_and_replaced(opened, tmp_path, caplog):
    opened(cache=b"old")
    with caplog.at_level(logging.WARNING):
        opened(cache=b"new")
    assert "compiled anew" in caplog.text
    assert [path.read_bytes() for path in (tmp_path / "cache" / "edgeseg").iterdir()] == [b"new"]


@pytest.mark.parametrize(("artifact", "gpu", "library", "message"), [
    (ARTIFACT, FakeCuda(driver=0), {}, "no NVIDIA driver"),
    (ARTIFACT, FakeCuda(driver=12040, cudaGetDeviceCount=Code.cudaErrorInsufficientDriver), {},
     r"serves CUDA up to 12\.4, cuda-bindings needs 13\.5\. Try: pip install 'cuda-bindings==12\.\*'"),
    (ARTIFACT, FakeCuda(), {"header": "VERSION_MISMATCH"}, r"another version.*Try: pip install 'tensorrt-rtx-cu13==1"),
    (ARTIFACT, FakeCuda(sm=(9, 0)), {"header": "UNSUPPORTED_CC"}, r"other GPUs .*capability 9\.0.*--sm 90"),
    (ARTIFACT, FakeCuda(), {"opens": False}, r"cannot open tiny\.plan \(Serialization assertion failed\)"),
    (ARTIFACT, FakeCuda(), {"says": "unnamed network 0"}, "do not belong together"),
    (ARTIFACT, FakeCuda(cudaMalloc=Code.cudaErrorMemoryAllocation), {}, r"no memory left \(cudaMalloc 72 bytes\)"),
    (NATIVE, FakeCuda(sm=(8, 7)), {"name": "tensorrt", "version": "10.7.0"}, r"TensorRT 10\.3\.0, this machine"),
    (NATIVE, FakeCuda(), {"name": "tensorrt", "version": "10.3.0"}, r"capability 8\.7, Fake RTX has 8\.9"),
])
def test_what_cannot_run_here_is_one_line_with_the_next_command(opened, artifact, gpu, library, message):
    with pytest.raises(UserError, match=message) as caught:
        opened(artifact, gpu, **library)
    assert "\n" not in str(caught.value)
    assert ". Try: " in str(caught.value)
    assert gpu.memory == {}


def test_a_native_plan_needs_no_runtime_cache(opened, tmp_path):
    session, _, _ = opened(NATIVE, FakeCuda(sm=(8, 7)), name="tensorrt", version="10.3.0")
    assert (session.run(frame(5)) == 250).all()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("change", [
    {"classes": ("sky", "road")}, {"precision": "fp32"}, {"weights": {"trained": True}}, {"align_corners": True}])
def test_the_name_in_the_plan_changes_with_whatever_a_mask_depends_on(change):
    assert plan_name(dataclasses.replace(ARTIFACT, **change)) != plan_name(ARTIFACT)
    assert len(plan_name(dataclasses.replace(ARTIFACT, name="n" * 100))) <= 128


def test_the_name_in_the_plan_leaves_out_what_is_known_only_afterwards():
    assert plan_name(dataclasses.replace(ARTIFACT, sha256="", file="other", details={})) == plan_name(ARTIFACT)


@pytest.mark.parametrize("said", [{"library": "antigravity"}, {"compute_capabilities": 5}, {"version": []}])
def test_a_json_cannot_name_another_module_to_import_nor_end_in_a_traceback(opened, said):
    with pytest.raises(UserError, match=f"{next(iter(said))} is .*expected|enum"):
        opened(dataclasses.replace(NATIVE, details={**NATIVE.details, **said}), name="tensorrt", version="10.3.0")


@pytest.mark.parametrize(("library", "message"), [
    ({"shape": (1, 8, 6, 3)}, r"input frame uint8 \[1, 8, 6, 3\].*\[1, 4, 6, 3\]"),
    ({"outputs": ("scores",)}, "output scores uint8.*classes uint8"),
    ({"outputs": ("classes", "more")}, "has 2 outputs .classes, more.; expected one")])
def test_a_plan_that_declares_other_tensors_than_its_json_is_refused(opened, library, message):
    with pytest.raises(UserError, match=message):
        opened(**library)
