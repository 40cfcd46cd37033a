import pytest

from calibration.judge.budget import Trial, _fewest, pruned, ranked, searched
from calibration.quantise.graph import Layer
from runtime.errors import GateFailed


def layer(name, macs):
    return Layer(name, name, "pointwise", "Conv", macs)


A, B, C, D = layer("a", 10), layer("b", 100), layer("c", 1000), layer("d", 1)
MACS = {one.node: one.macs for one in (A, B, C, D)}


def test_layers_rank_by_what_they_win_back_for_each_multiply_accumulate():
    gains = {"a": 1.0, "b": 1.0, "c": 200.0, "d": -0.1}
    assert ranked([A, B, C, D], gains, MACS) == [C, A, B]  # 0.2, 0.1, 0.01; d wins nothing back


def test_the_shortest_beginning_that_holds_is_found():
    assert _fewest([A, B, C, D], lambda kept: C in kept) == [A, B, C]
    assert _fewest([A, B, C, D], lambda kept: len(kept) >= 1) == [A]
    assert _fewest([A, B], lambda kept: False) is None


def test_what_turns_out_not_to_be_needed_goes_back_to_int8_the_costliest_first():
    tried = []

    def holds(kept):
        tried.append([other.name for other in kept])
        return B in kept

    assert pruned([A, B, C], holds, MACS) == [B]
    assert tried[0] == ["a", "b"]  # without c, the costliest


LOSS = {"a": 0.5, "b": 0.3, "c": 0.2, "d": 0.0}
PRICE = {"a": 2.0, "b": 0.5, "c": 1.0, "d": -0.4}  # ms


def trial(said=None):
    """Losses and times that add up; in INT8 throughout, 1 point is lost and a frame takes 10 ms."""
    return Trial(lambda kept: sum(loss for node, loss in LOSS.items() if node not in kept), PRICE,
                 lambda kept: 10 + sum(PRICE[node] for node in kept), "points of mIoU", 25)


def nodes(kept):
    return [entry.layer.node for entry in kept]


def test_the_fastest_plan_within_a_loss_keeps_what_wins_most_for_its_time():
    kept = searched([A, B, C, D], trial(), 0.8, None, str)
    assert nodes(kept) == ["d", "b"]  # d is faster in float; b wins 0.6 points a ms, a 0.25, c 0.2
    assert kept[0].reason == "it is 0.400 ms faster in float (pointwise)"
    assert kept[1].reason == "in INT8 it costs 0.30 points of mIoU, and saves 0.500 ms (pointwise)"


def test_the_most_faithful_plan_within_a_time_keeps_what_the_time_allows():
    assert nodes(searched([A, B, C, D], trial(), None, 10.2, str)) == ["d", "b"]  # 10 - 0.4 + 0.5; a would make 12.1
    with pytest.raises(GateFailed, match=r"each of the 4 layers may stay in float within 13\.2 ms; nothing"):
        searched([A, B, C, D], trial(), None, 13.2, str)


def test_what_neither_time_nor_loss_allows_fails_with_the_figure():
    with pytest.raises(GateFailed, match=r"takes 12\.10 ms with 3 layers in float, 11 are allowed"):
        searched([A, B, C, D], trial(), 0.25, 11, str)
    with pytest.raises(GateFailed, match=r"takes 9\.60 ms"):
        searched([A, B, C, D], trial(), None, 5, str)
