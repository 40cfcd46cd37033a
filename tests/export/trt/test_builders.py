"""Which library builds, and with which settings. TensorRT 10 and 11 are stand-ins; TensorRT-RTX is the real one."""

from __future__ import annotations

import enum
import signal
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from export.trt import library as trt_library
from export.trt.builders import Settings, build_plan
from export.trt.library import Library, choose
from runtime.errors import UserError
from runtime.sessions._cuda import Gpu

RTX_4090 = Gpu("RTX 4090", (8, 9), "13.0")
ORIN = Gpu("Orin", (8, 7), "12.6")
NO_GPU = "this machine has no NVIDIA driver"


@pytest.fixture
def installed(monkeypatch):
    """Says which libraries are installed: name → version."""
    def install(**versions: str):
        def find(name: str) -> Any:
            if name not in versions:
                raise UserError(f"{name} is not installed")
            numbers = {f"SM{n}": n for n in (75, 80, 86, 89, 120, 121)} | {"CURRENT": 1}
            return SimpleNamespace(__name__=name, __version__=versions[name],
                                   ComputeCapability=SimpleNamespace(__members__=numbers))
        monkeypatch.setattr(trt_library, "import_library", find)
    return install


@pytest.mark.parametrize(("versions", "runtime", "sm", "gpu", "expected"), [
    ({"tensorrt": "10.3.0", "tensorrt_rtx": "1.7"}, "auto", (), ORIN, "TensorRT 10.3.0, because it is installed and"),
    ({"tensorrt": "11.4.1", "tensorrt_rtx": "1.7"}, "auto", (), NO_GPU, "TensorRT-RTX 1.7, because it builds without"),
    ({"tensorrt": "11.4.1", "tensorrt_rtx": "1.7"}, "auto", (86,), RTX_4090, "TensorRT-RTX 1.7, because --sm asks"),
    ({"tensorrt": "11.4.1", "tensorrt_rtx": "1.7"}, "rtx", (), RTX_4090, "TensorRT-RTX 1.7, because --runtime asks"),
    ({"tensorrt_rtx": "1.7"}, "auto", (), RTX_4090, "TensorRT-RTX 1.7, because TensorRT is not installed"),
    ({"tensorrt": "11.4.1"}, "trt", (), RTX_4090, "TensorRT 11.4.1, because --runtime asks for it"),
])
def test_the_choice_of_a_library_is_said_with_its_reason(installed, versions, runtime, sm, gpu, expected):
    installed(**versions)
    assert str(choose(runtime, sm, gpu)).startswith(expected)


@pytest.mark.parametrize(("versions", "runtime", "sm", "gpu", "message"), [
    ({}, "auto", (), NO_GPU, r"pip install 'edgeseg\[trt\]'.*JetPack, or pip install tensorrt-cu13"),
    ({}, "rtx", (), NO_GPU, "tensorrt_rtx is not installed"),
    ({"tensorrt": "10.3.0"}, "auto", (), NO_GPU, "builds only on the GPU that the plan is for, and this"),
    ({"tensorrt": "8.6.1"}, "trt", (), ORIN, r"TensorRT 8\.6\.1 is installed; expected 10 or newer"),
    ({"tensorrt": "10.3.0"}, "trt", (86,), ORIN, "--sm was received together with --runtime trt"),
    ({"tensorrt_rtx": "1.7"}, "auto", (87,), NO_GPU, "--sm 87 was received.*Try: --runtime trt on the Jetson itself"),
    ({"tensorrt_rtx": "1.7"}, "auto", (), ORIN, r"Orin \(compute capability 8\.7\) is not served by TensorRT-RTX"),
])
def test_where_nothing_fits_the_message_says_what_to_do(installed, versions, runtime, sm, gpu, message):
    installed(**versions)
    with pytest.raises(UserError, match=message):
        choose(runtime, sm, gpu)


class Recorder(SimpleNamespace):
    """A stand-in for `tensorrt` that records the settings of a build."""

    def __init__(self, version: str, *, built: bytes | None = b"plan", during: Any = lambda monitor: None) -> None:
        super().__init__(__name__="tensorrt", __version__=version, settings={})
        tensor = SimpleNamespace(name="frame", shape=(1, 4, 4, 3), dtype=SimpleNamespace(name="UINT8"))
        network = SimpleNamespace(num_layers=0, num_inputs=1, num_outputs=1, get_input=lambda i: tensor,
                                  get_output=lambda i: tensor)
        settings = self.settings

        class Config:
            progress_monitor: Any = None

            def clear_flag(self, flag): settings["cleared"] = flag
            def set_memory_pool_limit(self, pool, size): settings[pool] = size
            def add_optimization_profile(self, profile): settings["profiles"] = 1
            def create_timing_cache(self, data): return data
            def get_timing_cache(self): return SimpleNamespace(serialize=lambda: b"measured")

            def set_timing_cache(self, cache, ignore_mismatch):
                settings["timing"] = cache
                return cache != b"of another version"

        class Builder:
            def __init__(self, log): self.log = log
            def create_builder_config(self): return Config()

            def create_network(self, flags):
                settings["flags"] = flags
                return network

            def create_optimization_profile(self):
                return SimpleNamespace(set_shape=lambda *shapes: settings.update(shapes=shapes))

            def build_serialized_network(self, network, config):
                settings["name"] = network.name
                during(config.progress_monitor)
                self.log.log(Severity.INFO, "Total Activation Memory: 512 bytes")
                if built is None:
                    self.log.log(Severity.ERROR, "OutOfMemory (Requested size was 9 bytes.)")
                return built

        self.Builder = Builder
        self.OnnxParser = lambda network, log: SimpleNamespace(parse=lambda model: True)
        self.Runtime = lambda log: None
        self.ILogger = type("ILogger", (), {"VERBOSE": Severity.VERBOSE, "__init__": lambda self: None})
        self.IProgressMonitor = type("IProgressMonitor", (), {"__init__": lambda self: None})
        self.BuilderFlag = SimpleNamespace(TF32="TF32")
        self.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
        self.ProfilingVerbosity = SimpleNamespace(DETAILED=2)
        self.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)


class Severity(enum.IntEnum):
    ERROR = 1
    INFO = 3
    VERBOSE = 4


@pytest.mark.parametrize(("version", "flags"), [("10.3.0", 1 << 1), ("11.4.1", 0)])
def test_only_tensorrt_10_needs_the_flag_for_strongly_typed_networks(tmp_path, version, flags):
    trt, cache = Recorder(version), tmp_path / "cache" / "t.timing"
    plan = build_plan(Library(trt, "test"), b"", Settings("name", workspace_mib=64, timing_cache=cache), ORIN)
    assert trt.settings == {"flags": flags, "cleared": "TF32", "workspace": 67_108_864, "timing": b"", "name": "name"}
    assert (plan.compute_capabilities, plan.activation_bytes, plan.data) == (("8.7",), 512, b"plan")
    assert cache.read_bytes() == b"measured"
    build_plan(Library(trt, "test"), b"", Settings("name", timing_cache=cache), ORIN)
    assert trt.settings["timing"] == b"measured"


def test_a_timing_cache_that_is_refused_is_named(tmp_path):
    cache = tmp_path / "t.timing"
    cache.write_bytes(b"of another version")
    with pytest.raises(UserError, match=r"refuses its timing cache .*Try: rm "):
        build_plan(Library(Recorder("10.3.0"), "test"), b"", Settings("name", timing_cache=cache), ORIN)


def test_the_profile_of_a_dynamic_graph_reaches_the_builder():
    trt = Recorder("11.0.0")
    shapes = ((1, 2, 2, 3), (1, 4, 4, 3), (1, 8, 8, 3))
    build_plan(Library(trt, "test"), b"", Settings("name", profile=shapes), ORIN)
    assert trt.settings["shapes"] == ("frame", *shapes)
    assert trt.settings["profiles"] == 1


def test_a_build_that_runs_out_of_memory_asks_for_a_larger_workspace():
    with pytest.raises(UserError, match=r"cannot build the graph \(OutOfMemory.*Try: a larger --workspace"):
        build_plan(Library(Recorder("11.0.0", built=None), "test"), b"", Settings("name"), ORIN)


def test_ctrl_c_stops_the_builder_between_two_steps_and_not_inside_it():
    answers = []

    def build(monitor: Any) -> None:
        monitor.phase_start("Building", None, 3)
        answers.append(monitor.step_complete("Building", 0))
        signal.raise_signal(signal.SIGINT)  # to this thread, at once: os.kill may reach another one, later
        answers.append(monitor.step_complete("Building", 1))
        monitor.phase_finish("Building")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        build_plan(Library(Recorder("11.0.0", built=None, during=build), "test"), b"", Settings("name"), ORIN)
    assert answers == [True, False]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_graph_that_cannot_be_read_is_reported_by_its_node():
    rtx = pytest.importorskip("tensorrt_rtx")
    graph = helper.make_graph(
        [helper.make_node("Transpose", ["frame"], ["y"], name="turn", perm=[0, 3, 1, 2])], "g",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, 4, 6, 3])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 3, 4, 6])])
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(UserError, match=r"cannot read node 'turn' \(Transpose\): .*UInt8"):
        build_plan(Library(rtx, "test"), model.SerializeToString(), Settings("name"))
