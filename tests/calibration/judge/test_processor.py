"""What INT8 arithmetic a processor has, as /proc/cpuinfo of such a machine says it."""

from __future__ import annotations

import pytest

from calibration.judge.processor import Processor, this_processor


@pytest.fixture
def read(tmp_path):
    """The processor of a machine whose /proc/cpuinfo is this text."""

    def processor(text: str, architecture: str) -> Processor:
        path = tmp_path / "cpuinfo"
        path.write_text(text, encoding="utf-8")
        return this_processor(path, architecture)

    return processor


def test_an_epyc_with_vnni_has_dot_products(read):
    found = read("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_vnni\n", "x86_64")
    assert found == Processor("x86_64", ("AVX512-VNNI",))
    assert found.describe() == "x86_64 with AVX512-VNNI"


def test_an_x86_with_avx512_but_without_vnni_has_none(read):
    found = read("flags : fpu avx2 avx512f avx512bw\n", "x86_64")
    assert found.dot_products == ()
    assert found.describe() == "x86_64 without dot-product instructions"


def test_arm_lists_its_features_under_another_name(read):
    assert read("Features : fp asimd asimddp i8mm\n", "aarch64").dot_products == (
        "Arm dot product", "Arm I8MM")


def test_a_cpuinfo_without_flags_is_unknown_rather_than_bad(read):
    assert read("model name: x\n", "x86_64").dot_products is None


def test_a_system_without_cpuinfo_is_unknown(tmp_path):
    assert this_processor(tmp_path / "absent", "arm64") == Processor("arm64", None)
