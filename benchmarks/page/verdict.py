"""Which artifact to ship for a budget, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.page.candidates import Candidate, by_machine, machine_name
from benchmarks.page.untimed import Untimed


@dataclass(frozen=True)
class Verdict:
    """What to ship.

    Attributes:
        chosen: None where none fits.
        headline: one sentence.
        reasons: why this one, what speaks against the others, and what the choice rests on.
    """

    chosen: Candidate | None
    headline: str
    reasons: tuple[str, ...]


def verdicts(candidates: Sequence[Candidate], max_ms: float | None, max_drop: float | None,
             untimed: Sequence[Untimed] = ()) -> dict[str, Verdict]:
    """One for each machine, as what to ship on a board says nothing of a desktop; arguments as for `verdict`.

    What nothing ran is said under the machine that made it, and else under the first.
    """
    machines = by_machine(candidates)
    makers = [name if (name := machine_name(entry.built)) in machines else next(iter(machines)) for entry in untimed]
    return {machine: verdict(found, max_ms, max_drop, [entry for entry, maker in zip(untimed, makers)
                                                       if maker == machine])
            for machine, found in machines.items()}


def verdict(candidates: Sequence[Candidate], max_ms: float | None, max_drop: float | None,
            untimed: Sequence[Untimed] = ()) -> Verdict:
    """Choose.

    Nine frames in ten must be done within `max_ms` (p90), as a camera does not wait. `max_drop` says how much
    accuracy may be given up for speed, so with it the fastest that fits is chosen, and without it the most accurate.

    Args:
        candidates: rows that are invalid do not take part.
        max_ms: milliseconds from frame to mask; None for any.
        max_drop: points of mIoU below the best candidate; None for any.
        untimed: artifacts that nothing ran here; they are never chosen, and what could not be checked is said.
    """
    decision = _decision(candidates, max_ms, max_drop)
    unchecked = tuple(line for entry in untimed if (line := entry.unchecked(max_ms, max_drop)))
    return replace(decision, reasons=decision.reasons + unchecked)


def _decision(candidates: Sequence[Candidate], max_ms: float | None, max_drop: float | None) -> Verdict:
    trusted = [c for c in candidates if not c.invalid]
    scored = [c for c in trusted if c.miou is not None]
    if not scored:
        return _none_fits(candidates, trusted, max_ms, max_drop)
    best, chosen = max(scored, key=_miou), _choice(scored, max_ms, max_drop)
    limits = _limits(max_ms, max_drop)
    against = tuple(f"{c.label}: {why}" for c in scored if (why := _against(c, best, max_ms, max_drop)))
    if chosen is None:
        return Verdict(None, f"No artifact fits {limits}.", against + _caveats(candidates, None))
    what = "fastest" if max_drop is not None else "most accurate"
    of = f"that fits {limits}" if limits else "of all"
    v = chosen.latency.values
    why = (f"It is the {what} {of}: p50 {v['p50_ms']:.1f} ms, p90 {v['p90_ms']:.1f} ms, mIoU {100 * _miou(chosen):.1f} "
           f"({_drop(chosen, best):.1f} points below the best, {best.label}).")
    return Verdict(chosen, f"Ship {chosen.label}.", (why, *against, *_caveats(candidates, chosen)))


def _choice(scored: Sequence[Candidate], max_ms: float | None, max_drop: float | None) -> Candidate | None:
    """Of candidates with an accuracy; None where none fits."""
    best = max(scored, key=_miou)
    fitting = [c for c in scored if (max_ms is None or c.latency.values["p90_ms"] <= max_ms)
               and (max_drop is None or _drop(c, best) <= max_drop)]
    if max_drop is None:
        return max(fitting, key=_miou, default=None)
    return min(fitting, key=lambda c: c.p50, default=None)


def _limits(max_ms: float | None, max_drop: float | None) -> str:
    found = []
    if max_ms is not None:
        found.append(f"p90 at most {max_ms:g} ms")
    if max_drop is not None:
        found.append(f"at most {max_drop:g} points of mIoU below the best")
    return " and ".join(found)


def _miou(candidate: Candidate) -> float:
    return candidate.miou or 0.0


def _drop(candidate: Candidate, best: Candidate) -> float:
    return 100 * (_miou(best) - _miou(candidate))


def _against(c: Candidate, best: Candidate, max_ms: float | None, max_drop: float | None) -> str:
    found = []
    if max_ms is not None and (p90 := c.latency.values["p90_ms"]) > max_ms:
        found.append(f"p90 is {p90:.1f} ms")
    if max_drop is not None and _drop(c, best) > max_drop:
        found.append(f"mIoU is {_drop(c, best):.1f} points below the best")
    return ", ".join(found)


def _none_fits(candidates: Sequence[Candidate], trusted: Sequence[Candidate], max_ms: float | None,
               max_drop: float | None) -> Verdict:
    if not candidates:
        return Verdict(None, "Nothing was measured.", ())
    if not trusted:
        reason = candidates[0].invalid[0]
        scored = [c for c in candidates if c.miou is not None]
        guess = _choice(scored, max_ms, max_drop) if scored else None
        hint = (f"As they stand, {guess.label} would be it: an indication, no result.",) if guess else ()
        return Verdict(None, "No artifact can be named: every row is invalid.",
                       (f"{reason[0].upper()}{reason[1:]}.", *hint, "Measure again on an idle machine."))
    return Verdict(None, "No artifact can be named: no valid row has an accuracy.",
                   ("python -m benchmarks sweep measures both from the same artifact.",))


def _caveats(candidates: Sequence[Candidate], chosen: Candidate | None) -> tuple[str, ...]:
    found = [f"{c.label} takes no part: {c.invalid[0]}." for c in candidates if c.invalid]
    if chosen is not None and chosen.quick:
        found.append("This rests on a quick measurement: an indication, no result.")
    return tuple(found)
