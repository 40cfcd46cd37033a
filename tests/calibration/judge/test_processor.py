from calibration.judge.processor import Processor, processor_from_cpuinfo


def test_an_epyc_with_vnni_does_not_saturate():
    found = processor_from_cpuinfo("processor : 0\nflags\t\t: fpu avx2 avx512f avx512_vnni\n", "x86_64")
    assert found == Processor("x86_64", ("AVX512-VNNI",))
    assert not found.saturates


def test_an_x86_with_avx512_but_without_vnni_saturates():
    found = processor_from_cpuinfo("flags : fpu avx2 avx512f avx512bw\n", "x86_64")
    assert found.dot_products == ()
    assert found.saturates
    assert "saturate" in found.describe()


def test_arm_never_saturates_and_lists_its_features_under_another_name():
    assert processor_from_cpuinfo("Features : fp asimd asimddp i8mm\n", "aarch64").dot_products == (
        "Arm dot product", "Arm I8MM")
    assert not processor_from_cpuinfo("Features : fp asimd\n", "aarch64").saturates


def test_a_cpuinfo_without_flags_is_unknown_rather_than_bad():
    assert processor_from_cpuinfo("model name: x\n", "x86_64").dot_products is None
    assert not processor_from_cpuinfo("", "x86_64").saturates
