"""Old rows against new ones: what has become worse beyond its interval."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.measurement import Measurement
from calibration.judge.intervals import ratio_interval


@dataclass(frozen=True)
class Comparison:
    """Sentences, sorted by what they mean."""

    regressions: tuple[str, ...]
    others: tuple[str, ...]
    """What has improved or stayed."""
    uncompared: tuple[str, ...]
    """What cannot be compared, and why."""


def compare(old: Iterable[Measurement], new: Iterable[Measurement]) -> Comparison:
    """Compare rows of the same kind and label; of several, the newest.

    Latency is worse when the interval of new/old lies above 1 as a whole; accuracy, when the new mIoU lies below the
    old one's interval. A row that is gone is a regression; one that is invalid, or from another processor, cannot be
    compared.
    """
    before, after = _newest(old), _newest(new)
    worse: list[str] = []
    same: list[str] = []
    not_compared: list[str] = []
    for key, a in before.items():
        b = after.get(key)
        title = f"{a.label}, {a.kind}"
        if b is None:
            worse.append(f"{title}: measured before, not any more")
        elif why := _obstacle(a, b):
            not_compared.append(f"{title}: {why}")
        else:
            is_worse, what = (_latency if a.kind == "latency" else _accuracy)(a, b)
            (worse if is_worse else same).append(f"{title}: {what}")
    return Comparison(tuple(worse), tuple(same), tuple(not_compared))


def _newest(rows: Iterable[Measurement]) -> dict[tuple[str, str], Measurement]:
    ordered = sorted(rows, key=lambda entry: entry.at)
    return {(entry.kind, entry.label): entry for entry in ordered if entry.kind in ("latency", "accuracy")}


def _obstacle(a: Measurement, b: Measurement) -> str:
    for when, entry in (("old", a), ("new", b)):
        if entry.invalid:
            return f"the {when} row is invalid ({entry.invalid[0]})"
    if a.kind == "latency" and a.machine.get("cpu") != b.machine.get("cpu"):
        return f"another processor ({a.machine.get('cpu')}, {b.machine.get('cpu')})"
    return ""


def _latency(a: Measurement, b: Measurement) -> tuple[bool, str]:
    rounds = ([[ms] for ms in entry.details["rounds_ms"]] for entry in (a, b))
    ratio, low, high = ratio_interval(*rounds, paired=False)
    return low > 1, (f"p50 {a.values['p50_ms']:.2f} ms -> {b.values['p50_ms']:.2f} ms, {ratio:.3f} times "
                     f"(95 %: {low:.3f} to {high:.3f})")


def _accuracy(a: Measurement, b: Measurement) -> tuple[bool, str]:
    was, low, now = a.values["miou"], a.values["miou_low"], b.values["miou"]
    return now < low, f"mIoU {100 * was:.2f} (95 % from {100 * low:.2f}) -> {100 * now:.2f}"
