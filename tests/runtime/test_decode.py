"""The decoder: what is not exactly what was asked for is refused, and the reason says what stood where."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from runtime.decode import DEPTH, Number, Side, Word, decoded, parsed, read


@dataclass(frozen=True)
class Inner:
    size: tuple[Side, Side]
    scale: Number = 1.0


@dataclass(frozen=True)
class Outer:
    name: Word
    inner: tuple[Inner, ...]
    free: Mapping[str, Any] = field(default_factory=dict)


GOOD: dict[str, Any] = {"name": "a-1", "inner": [{"size": [1, 2], "scale": 1}], "free": {"x": [None, {"y": 1}]}}


def test_values_become_the_dataclass_and_whole_numbers_stay_whole():
    made = decoded(Outer, GOOD)
    assert made == Outer("a-1", (Inner((1, 2), 1),), {"x": [None, {"y": 1}]})
    assert type(made.inner[0].scale) is int


@pytest.mark.parametrize(("change", "reason"), [
    ({"name": "a b"}, r"name is 'a b'; expected str matching"),
    ({"name": 3}, "name is 3; expected str, got int"),
    ({"inner": [{"size": [1, 0], "scale": 1}]}, r"inner\[0\]\.size\[1\] is 0; expected int >= 1"),
    ({"inner": [{"size": [1, True], "scale": 1}]}, "expected int, got bool"),
    ({"inner": [{"size": [1.0, 1], "scale": 1}]}, "expected int, got float"),
    ({"inner": [{"size": [1], "scale": 1}]}, r"inner\[0\]\.size is \[1\]; expected array of length 2"),
    ({"inner": [{"size": [1, 1], "scale": float("nan")}]}, r"scale is nan; expected"),
    ({"inner": [{"size": [1, 1], "scale": float("inf")}]}, r"scale is inf; expected"),
    ({"inner": [{"scale": 1}]}, r"the key 'inner\[0\]\.size' is missing"),
    ({"inner": [{"size": [1, 1]}]}, r"the key 'inner\[0\]\.scale' is missing"),
    ({"inner": [{"size": [1, 1], "scale": 1, "more": 1}]}, r"the key 'inner\[0\]\.more' is unknown"),
    ({"more\n": 1}, r"the key 'more\\n' is unknown"),
    ({"inner": {}}, r"inner is \{\}; expected array, got object")])
def test_what_is_off_is_named_with_its_place_in_one_line(change, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        decoded(Outer, {**GOOD, **change})
    assert "\n" not in str(caught.value)


def test_defaults_stand_in_only_where_the_caller_allows_it():
    part = {"name": "a", "inner": [{"size": [1, 2]}]}
    assert decoded(Outer, part, whole=False) == Outer("a", (Inner((1, 2)),))
    with pytest.raises(ValueError, match="is missing"):
        decoded(Outer, part)


def test_a_part_passes_over_the_files_other_keys_but_not_over_its_own_parts():
    assert decoded(Outer, {**GOOD, "more": 1}, part=True) == decoded(Outer, GOOD)
    with pytest.raises(ValueError, match=r"inner\[0\]\.more' is unknown"):
        decoded(Outer, {**GOOD, "inner": [{"size": [1, 2], "scale": 1, "more": 1}]}, part=True)


@pytest.mark.parametrize(("text", "reason"), [
    ("", "truncated"), ('{"a": 1', "truncated"), ("{'a': 1}", "malformed"), ('{"a": NaN}', "malformed"),
    ('{"a": 1e999}', "out of range"), ('{"a": ' + "9" * 5000 + "}", "out of range"), ('{"a": "\\ud800"}', "truncated"),
    ('{"a": 1} x', "malformed"), ('{"b": {"a": 1, "a": 1}}', "the key 'a' stands twice"),
    ("[" * 100_000, "nested"), ("[" * 100_000 + "]" * 100_000, "nested"), ('{"a":' * 100_000, "nested")])
def test_json_that_readers_disagree_about_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        parsed(text)


def test_nesting_is_read_up_to_the_limit():
    assert decoded(list, parsed("[" * (DEPTH - 1) + "1" + "]" * (DEPTH - 1)))
    with pytest.raises(ValueError, match="more than 32 levels"):
        decoded(list, parsed("[" * (DEPTH + 1) + "]" * (DEPTH + 1)))


def test_a_file_of_a_gigabyte_is_refused_without_being_read(tmp_path):
    path = tmp_path / "large.json"
    with path.open("wb") as stream:
        stream.truncate(1 << 30)
    tracemalloc.start()
    with pytest.raises(ValueError, match="larger than 17 MB"):
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20
