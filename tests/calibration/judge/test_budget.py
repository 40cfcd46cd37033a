from calibration.judge.budget import _fewest, pruned, ranked
from calibration.quantise.graph import Layer


def layer(name, macs):
    return Layer(name, name, "pointwise", "Conv", macs)


A, B, C, D = layer("a", 10), layer("b", 100), layer("c", 1000), layer("d", 1)


def test_layers_rank_by_what_they_win_back_for_each_multiply_accumulate():
    gains = {"a": 1.0, "b": 1.0, "c": 200.0, "d": -0.1}
    assert ranked([A, B, C, D], gains) == [C, A, B]  # 0.2, 0.1, 0.01; d wins nothing back


def test_the_shortest_beginning_that_holds_is_found():
    assert _fewest([A, B, C, D], lambda kept: C in kept) == [A, B, C]
    assert _fewest([A, B, C, D], lambda kept: len(kept) >= 1) == [A]
    assert _fewest([A, B], lambda kept: False) is None


def test_what_turns_out_not_to_be_needed_goes_back_to_int8_the_costliest_first():
    tried = []

    def holds(kept):
        tried.append([other.name for other in kept])
        return B in kept

    assert pruned([A, B, C], holds) == [B]
    assert tried[0] == ["a", "b"]  # without c, the costliest
