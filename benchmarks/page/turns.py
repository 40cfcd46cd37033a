"""Candidates that were measured in turn, for a terminal: what each costs, keeps and needs, and what was refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.measurement import Measurement
from benchmarks.page.candidates import Candidate
from benchmarks.page.text import Column, aligned, marks, value
from benchmarks.page.verdict import Verdict
from calibration.judge.intervals import Interval, ratio_interval

Base = Callable[[Candidate], Candidate]
"""The candidate that another one's time is divided by."""


def table(candidates: Sequence[Candidate], base: Base, what: str) -> str:
    """One line for each candidate, columns aligned; and what speaks against the figures.

    Args:
        candidates: in the order of the lines.
        base: what times are divided by.
        what: the same in words, for the heading: "fastest".
    """
    columns: list[Column] = [
        ("", short), ("p50 ms [95 %]", _p50), ("p90", value("p90_ms", 2)), (f"x {what} [95 %]", _ratio(base)),
        ("mIoU [95 %]", _miou), ("points lost [95 %]", _lost), ("pixels kept", kept), ("file MB", value("model_mb", 1)),
        ("peak MB", value("peak_mb", 0)), ("start ms", value("cold_start_ms", 0)), ("", marks)]
    cells = [[title for title, _ in columns], *([cell(c) for _, cell in columns] for c in candidates)]
    return "\n".join([*aligned(cells), *_complaints(candidates)])


def short(c: Candidate) -> str:
    """What tells candidates of one network apart: "int8 openvino"."""
    height, width = c.latency.size
    return c.latency.label.removeprefix(f"{c.latency.name} {height}x{width} ")


def ratio(c: Candidate, base: Candidate) -> Interval:
    """By how much longer one takes than another, with its 95 % interval; rounds of one run belong together."""
    rounds = ([[ms] for ms in entry.latency.details["rounds_ms"]] for entry in (base, c))
    return ratio_interval(*rounds, paired=c.latency.details.get("run") == base.latency.details.get("run"))


def lost(c: Candidate) -> str:
    """Points of mIoU below the network in torch; "" where that was not measured."""
    entry = c.others.get("accuracy")
    return _signed(entry.values["drop_points"]) if entry and "drop_points" in entry.values else ""


def kept(c: Candidate) -> str:
    """Share of pixels with the class that the network in torch gives them."""
    return f"{text} %" if (text := value("agreement", 2, "accuracy", 100)(c)) else ""


def refusals(entries: Sequence[Measurement]) -> list[str]:
    """One line for each reason: what was refused for it."""
    by_reason: dict[str, list[str]] = {}
    for entry in entries:
        by_reason.setdefault(entry.details["reason"], []).append(f"{entry.variant} {entry.engine or entry.target}")
    return [f"refused: {', '.join(dict.fromkeys(what))}: {reason}" for reason, what in by_reason.items()]


def sentence(decision: Verdict) -> str:
    """What to ship, and why; or why nothing can be named."""
    return " ".join([decision.headline, *decision.reasons[:1 if decision.chosen else 3]])


def _p50(c: Candidate) -> str:
    v = c.latency.values
    return f"{v['p50_ms']:.2f} [{v['p50_low_ms']:.2f}, {v['p50_high_ms']:.2f}]"


def _ratio(base: Base) -> Callable[[Candidate], str]:
    def cell(c: Candidate) -> str:
        return "1" if (other := base(c)) is c else "{:.2f} [{:.2f}, {:.2f}]".format(*ratio(c, other))
    return cell


def _miou(c: Candidate) -> str:
    if (entry := c.others.get("accuracy")) is None:
        return ""
    return "{:.2f} [{:.1f}, {:.1f}]".format(*(100 * entry.values[key] for key in ("miou", "miou_low", "miou_high")))


def _lost(c: Candidate) -> str:
    if not (text := lost(c)):
        return ""
    low, high = (_signed(c.others["accuracy"].values[f"drop_{end}_points"]) for end in ("low", "high"))
    return f"{text} [{low}, {high}]"


def _signed(points: float) -> str:
    """Two digits with a sign, which is + for nothing."""
    return f"{round(points, 2) + 0.0:+.2f}"


def _complaints(candidates: Sequence[Candidate]) -> list[str]:
    """Why figures are marked, each reason once and without its own number."""
    found = dict.fromkeys(reason.partition(":")[0] for c in candidates for reason in c.invalid)
    share = max((c.latency.values.get("others_share", 0) for c in candidates), default=0)
    busy = f"; others took up to {100 * share:.0f} % of the processor" if found and share > 0.05 else ""
    lines = [f"INVALID: {'; '.join(found)}{busy}"] if found else []
    rules = dict.fromkeys(("QUICK, an indication and no result: " if c.quick else "") + c.latency.details["rule"]
                          for c in candidates)
    return lines + list(rules)
