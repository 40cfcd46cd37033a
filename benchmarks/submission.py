"""What a phone sends back: taken only with the run's token, only in the sizes and types that were asked for.

The page that sends it is ours, but anything in the network can send anything. Nothing here is evaluated, no name
becomes a path, and what does not fit is refused as a whole.
"""

from __future__ import annotations

import hmac
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ENGINES = ("web-wasm", "web-webgpu")
STAGES = ("preprocess", "inference", "mask")
MOST_QUERIES = 200_000
LONGEST_TEXT = 200
LONGEST_MS = 1e7


class Refused(Exception):
    """What was sent is not what was asked for; the message says in what."""


@dataclass(frozen=True)
class Submission:
    """One network on one engine of one device.

    Attributes:
        network: its position in the plan.
        engine: of `ENGINES`.
        rounds: ms of the queries, round by round.
        stages: the same of each of `STAGES`.
        numbers: "load_ms", "first_ms", "agreement", "gate", "threads", "warm_up_queries".
        settled: whether the warm-up came to rest.
        thermal: (seconds since the start, median ms) of the run without a pause; empty without one.
        machine: what the browser says of the device.
        texts: "why" this engine, "painter", "power".
        complaints: why the figures cannot be trusted, as the page saw it.
    """

    network: int
    engine: str
    rounds: list[list[float]]
    stages: dict[str, list[list[float]]]
    numbers: dict[str, float]
    settled: bool
    thermal: list[tuple[float, float]]
    machine: dict[str, Any]
    texts: dict[str, str]
    complaints: tuple[str, ...]


def read(body: bytes, token: str, networks: int, rounds: int) -> Submission:
    """Check what was sent as a result.

    Args:
        body: JSON.
        token: of this run.
        networks: how many there are.
        rounds: how many were asked for.

    Raises:
        Refused: another token, or anything missing, of another type, out of range or too long.
    """
    values = read_json(body, token)
    try:
        measured = _rounds(values["rounds"], rounds)
        stages = {stage: _rounds(values["stages"][stage], rounds) for stage in STAGES}
        if any([len(times) for times in found] != [len(times) for times in measured] for found in stages.values()):
            raise Refused("a stage has another number of queries than the whole")
        device = values["device"]
        return Submission(
            _whole(values["network"], networks), _one_of(values["engine"], ENGINES), measured, stages,
            {**{key: _number(values[key], LONGEST_MS) for key in ("load_ms", "first_ms")},
             **{key: _number(values[key], 1) for key in ("agreement", "gate")},
             "threads": _whole(values["threads"], 1025),
             "warm_up_queries": _whole(values["warmed"]["queries"], MOST_QUERIES)},
            values["warmed"]["settled"] is True,
            [(_number(at, 1e6), _number(ms, LONGEST_MS)) for at, ms in _few(values["thermal"], 100_000)],
            {**{key: _text(device[key]) for key in ("cpu", "browser", "system")},
             **{key: _number(device[key], 1e5) for key in ("cores", "memory_gb") if device[key]}},
            {"why": _text(values["why"]), "painter": _text(values["painter"]), "power": _text(device["power"])},
            tuple(_text(line) for line in _few(values["complaints"], 10)))
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(f"not a result of phone.js ({type(error).__name__}: {error})") from error


def read_json(body: bytes, token: str) -> dict[str, Any]:
    """A JSON object that carries the token.

    Raises:
        Refused: it is none, or its token is another run's.
    """
    try:
        values = json.loads(body)
    except ValueError as error:
        raise Refused("not JSON") from error
    if not isinstance(values, dict):
        raise Refused("not a JSON object")
    check_token(values, token)
    return values


def check_token(values: Mapping[str, Any], token: str) -> None:
    """See that `values` carries this run's token.

    Raises:
        Refused: it does not.
    """
    if not hmac.compare_digest(str(values.get("token", "")).encode(), token.encode()):
        raise Refused("the token is not this run's; open the page again by the address in the terminal")


def _rounds(values: Any, rounds: int) -> list[list[float]]:
    found = [[_number(ms, LONGEST_MS) for ms in times] for times in _few(values, rounds)]
    if len(found) != rounds or not all(found) or sum(map(len, found)) > MOST_QUERIES:
        raise Refused(f"{len(found)} rounds were received; expected {rounds} with at least one query each")
    return found


def _few(values: Any, most: int) -> list[Any]:
    if not isinstance(values, list) or len(values) > most:
        raise Refused(f"a list of at most {most} was expected")
    return values


def _number(value: Any, most: float) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 0 <= value <= most:
        raise Refused(f"{str(value)[:40]!r} was received; expected a number from 0 to {most:g}")
    return float(value)


def _whole(value: Any, below: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < below:
        raise Refused(f"{str(value)[:40]!r} was received; expected a whole number below {below}")
    return value


def _one_of(value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise Refused(f"{str(value)[:40]!r} was received; expected {' or '.join(known)}")
    return str(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT or not value.isprintable():
        raise Refused(f"{str(value)[:40]!r} was received; expected at most {LONGEST_TEXT} printable characters")
    return value
