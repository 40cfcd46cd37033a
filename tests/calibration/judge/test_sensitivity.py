"""What people see of a sensitivity report."""

from calibration.judge.sensitivity import Report, Sensitivity, plot, table
from calibration.quantise.graph import Layer

CONVOLUTION = Sensitivity(Layer("c", "stem.0", "first convolution", "Conv", 18_700_000), 0.43, -0.001, 1.09, 0.31)
ACTIVATION = Sensitivity(Layer("h", "hard-swish after stem.0", "hard-swish", "HardSwish", 0), 0.71, 0.22, None, None)


def report(unit):
    return Report(unit, 8, 1.25, 0.48, (CONVOLUTION, ACTIVATION))


def test_the_worst_layer_comes_first_with_points_where_there_are_labels():
    title, heading, first, second = table(report("points of mIoU")).splitlines()
    assert title.startswith("1.25 % of pixels change class when all layers are INT8 (+0.48 points of mIoU, 8 frames)")
    assert heading.split() == ["layer", "role", "MMAC", "alone", "%", "points", "spared", "%", "points"]
    assert first.split() == ["hard-swish", "after", "stem.0", "hard-swish", "0.0", "0.71", "+0.22"]
    assert second.split() == ["stem.0", "first", "convolution", "18.7", "0.43", "+0.00", "1.09", "+0.31"]
    assert len(heading) == len(second)


def test_without_labels_there_are_no_points():
    heading, first = table(report("% of pixels"), worst=1).splitlines()[1:]
    assert heading.split() == ["layer", "role", "MMAC", "alone", "%", "spared", "%"]
    assert first.endswith("0.71")


def test_the_plot_has_a_bar_for_every_layer_and_says_how_many_frames():
    picture = plot(report("% of pixels"))
    assert "(8 frames; 1.25 when all layers are)" in picture
    assert picture.count("<rect ") == 1 + 2
    assert 'width="420.0"' in picture  # the worst spans the whole width
