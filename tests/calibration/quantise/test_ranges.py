import numpy as np
import pytest

from calibration.quantise.ranges import BINS, Magnitudes, counted
from calibration.quantise.thresholds import METHODS, choose, entropy, minmax, mse, percentile


def seen(*frames):
    magnitudes = Magnitudes.empty()
    for values in frames:
        magnitudes.add(np.asarray(values, np.float32))
    return magnitudes


def test_a_histogram_counts_magnitudes_and_widens_when_a_larger_value_comes():
    magnitudes = seen([0.0, -1.0, 1.0], [7.9])
    assert magnitudes.counts.sum() == 4
    assert magnitudes.largest == np.float32(7.9)
    assert magnitudes.width == pytest.approx(8 / BINS, rel=1e-5)  # 1 → 2 → 4 → 8
    assert magnitudes.counts[0] == 1
    assert magnitudes.counts[BINS // 8 - 1] + magnitudes.counts[BINS // 8] == 2


def test_what_is_counted_elsewhere_in_finer_bins_adds_up_to_the_same_histogram():
    """As workers of a cluster count, who know the first frame's bins and nothing of the frames between."""
    rng = np.random.default_rng(0)
    frames = [np.float32(scale) * rng.standard_normal(5000).astype(np.float32) for scale in (1, 0.01, 9, 0.3, 40, 0)]
    one = seen(*frames)
    width = float(np.float32(one.width))
    edges = [np.array([np.nextafter(np.float32(width * BINS / 2**k), np.float32(0))]) for k in range(12)]
    one, many = seen(*frames, *edges), Magnitudes.empty()
    base = counted(frames[0], 0.0).width
    for values in [*frames, *edges]:
        many.take(counted(np.asarray(values, np.float32), base))
    assert (one.counts == many.counts).all()
    assert (one.width, one.largest) == (many.width, many.largest)
    assert not one.fits(counted(frames[0], base * 1.5))


def test_the_order_of_frames_does_not_matter_once_the_widths_agree():
    a, b = np.linspace(-1, 1, 1001), np.linspace(-4, 4, 1001)
    forward, backward = seen(b, a), seen(b, a[::-1])
    assert (forward.counts == backward.counts).all()


def test_minmax_keeps_everything():
    assert minmax(seen([0.1, -3.0, 2.0])) == 3.0


def test_percentile_cuts_the_one_value_in_a_hundred_thousand_that_is_far_out():
    values = np.append(np.linspace(0, 1, 99_999), 50)
    assert percentile(seen(values)) == pytest.approx(1, abs=0.05)


def test_mse_cuts_a_far_outlier_but_nothing_of_a_uniform_distribution():
    uniform = np.linspace(-1, 1, 100_001)
    assert mse(seen(uniform)) == pytest.approx(1, abs=0.02)
    # Minimum of N (t/127)²/12 + (4 - t)², for N values of rounding and one that is cut: 4 / (1 + N / (12·127²)).
    assert mse(seen(np.append(uniform, 4))) == pytest.approx(4 / (1 + 100_001 / (12 * 127**2)), abs=0.07)


def test_mse_is_the_best_of_all_thresholds_on_the_values_themselves():
    values = np.random.default_rng(0).laplace(size=50_000)
    found = mse(seen(values))

    def error(threshold):
        scale = threshold / 127
        return np.mean((values - np.clip(np.rint(values / scale), -127, 127) * scale) ** 2)

    assert error(found) <= min(error(t) for t in np.linspace(2, np.abs(values).max(), 60)) * 1.02


def test_entropy_cuts_the_long_tail_of_a_laplacian_and_keeps_the_body():
    values = np.random.default_rng(0).laplace(size=200_000)
    assert np.quantile(np.abs(values), 0.95) < entropy(seen(values)) < np.abs(values).max()


def test_a_tensor_that_is_always_zero_gets_no_range_in_any_method():
    zero = seen(np.zeros(10))
    for method in METHODS:
        assert choose(method, {"t": zero}) == {"t": (0, 0)}


def test_a_range_ends_at_the_threshold_or_at_what_was_seen_where_that_is_nearer():
    (low, high), = choose("mse", {"x": seen(np.linspace(-0.3, 4, 5000))}, zero_points=True).values()
    assert low == pytest.approx(-0.3)
    assert 3.5 < high <= 4


def test_with_zero_points_all_steps_lie_within_the_range_so_that_less_is_cut():
    positive = seen(np.random.default_rng(0).exponential(size=50_000))
    (_, signed), (_, unsigned) = (choose("mse", {"x": positive}, zero_points=z)["x"] for z in (False, True))
    assert unsigned > 1.05 * signed
