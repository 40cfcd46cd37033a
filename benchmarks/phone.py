"""How fast and how right a phone is: a page that measures in its browser, and rows that come back from it."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import sustained
from benchmarks.submission import ENGINES, Refused, Submission, check_token, read, read_json
from benchmarks.sustained import Moment
from runtime import cli

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from benchmarks.measurement import Measurement
    from benchmarks.rounds import Rule
    from calibration.data.labels import Pair
    from runtime.artifact import Artifact

LARGEST_POST = 32 << 20
"""Bytes of a result or a mask; 200,000 queries are 12 MB."""


@dataclass
class PhoneRun:
    """What is measured, and what has come back.

    Attributes:
        artifacts: each with its file.
        rule: how much is measured.
        minutes: without a pause, after the rounds; 0 for none.
        pairs: labelled frames for accuracy; empty for none.
        rows: where rows go.
        token: known to whoever reads the terminal.
        received: the rows of this run so far.
        done: set when a device says that it has sent everything.
    """

    artifacts: Sequence[tuple[Artifact, Path]]
    rule: Rule
    minutes: int
    pairs: Sequence[Pair]
    rows: Path
    token: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    received: list[Measurement] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)
    _masks: dict[tuple[int, str], dict[int, npt.NDArray[np.uint8]]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def plan(self) -> dict[str, Any]:
        """What phone.js reads first."""
        rule = {"queries": self.rule.queries, "seconds": self.rule.seconds, "rounds": self.rule.rounds}
        return {"rule": rule, "minutes": self.minutes, "names": [path.stem for _, path in self.artifacts],
                "networks": [f"network-{i}/page.json" for i in range(len(self.artifacts))],
                "frames": [f"frames/{i}.png" for i in range(4)],
                "labelled": [f"labelled/{i}" for i in range(len(self.pairs))]}

    def take_result(self, _: Mapping[str, str], body: bytes) -> tuple[int, str]:
        """One network on one engine: a latency row, and an accuracy row where all masks are here."""
        from benchmarks.measurement import append

        try:
            sent = read(body, self.token, len(self.artifacts), self.rule.rounds)
            rows = [self._latency(sent), *self._accuracy(sent)]
        except Refused as error:
            return 400, json.dumps(str(error))
        with self._lock:
            append(self.rows, rows)
            self.received += rows
        return 200, "{}"

    def take_mask(self, query: Mapping[str, str], body: bytes) -> tuple[int, str]:
        """The class map of one labelled frame, one byte a pixel."""
        import numpy as np

        try:
            check_token(query, self.token)
            network, frame, height, width = (int(query[key]) for key in ("network", "frame", "height", "width"))
            if not (0 <= network < len(self.artifacts) and 0 <= frame < len(self.pairs) and query["engine"] in ENGINES):
                raise Refused("no such network, frame or engine")
            mask = np.frombuffer(body, np.uint8)
            if min(height, width) < 1 or mask.size != height * width:
                raise Refused(f"{mask.size} pixels were received; expected {height} x {width}")
            if mask.max() >= len(self.artifacts[network][0].classes):
                raise Refused(f"class {mask.max()} was received; the network has fewer")
        except (KeyError, ValueError, Refused) as error:
            return 400, json.dumps(str(error))
        with self._lock:
            self._masks.setdefault((network, query["engine"]), {})[frame] = mask.reshape(height, width)
        return 200, "{}"

    def take_end(self, _: Mapping[str, str], body: bytes) -> tuple[int, str]:
        """A device has sent everything."""
        try:
            read_json(body, self.token)
        except Refused as error:
            return 400, json.dumps(str(error))
        self.done.set()
        return 200, "{}"

    def _latency(self, sent: Submission) -> Measurement:
        from benchmarks.latency import percentiles
        from benchmarks.measurement import row
        from runtime.artifact import size_mb

        artifact, path = self.artifacts[sent.network]
        values = {**percentiles(sent.rounds, sent.stages["inference"]), "model_mb": size_mb(path),
                  **{key: sent.numbers[key] for key in ("load_ms", "first_ms", "agreement")}}
        moments = [Moment(at, 1e3 / max(ms, 1e-3)) for at, ms in sent.thermal]  # a browser's clock is coarse
        values |= sustained.values(moments) if moments else {}
        return row("latency", artifact, values, engine=sent.engine, samples=sum(map(len, sent.rounds)),
                   machine=sent.machine, quick=self.rule.quick, invalid=_complaints(sent, self.rule),
                   details={"rule": str(self.rule), "rounds_ms": [_median(times) for times in sent.rounds],
                            "rounds_inference_ms": [_median(times) for times in sent.stages["inference"]],
                            "stages_ms": {stage: _median([*chain(*rounds)]) for stage, rounds in sent.stages.items()},
                            "warm_up_queries": sent.numbers["warm_up_queries"], **sent.texts,
                            **(sustained.details(moments) if moments else {}),
                            **({"threads": int(sent.numbers["threads"])} if sent.engine == "web-wasm" else {})})

    def _accuracy(self, sent: Submission) -> list[Measurement]:
        from benchmarks.accuracy import summary
        from benchmarks.frames import accuracy_values, untrained
        from benchmarks.measurement import row
        from calibration.data.labels import label_map, read_pairs
        from calibration.judge.accuracy import measure

        if not self.pairs:
            return []
        artifact, masks = self.artifacts[sent.network][0], self._masks.get((sent.network, sent.engine), {})
        if len(masks) != len(self.pairs):
            raise Refused(f"{len(masks)} masks were received; expected {len(self.pairs)}")
        labelled = list(read_pairs(self.pairs, label_map("own", artifact.classes)))
        for number, (name, _, label) in enumerate(labelled):
            if masks[number].shape != label.shape:
                raise Refused(f"the mask of {name} is {masks[number].shape}, its label {label.shape}")
        in_order = iter([masks[number] for number in range(len(masks))])
        figures = summary(measure(lambda _: next(in_order), labelled, artifact.classes))
        return [row("accuracy", artifact, accuracy_values(figures), engine=sent.engine, samples=figures["frames"],
                    machine=sent.machine, invalid=untrained(artifact),
                    details={"iou_by_class": figures["iou_by_class"],
                             "palette": dict(zip(artifact.classes, artifact.palette))})]


def _complaints(sent: Submission, rule: Rule) -> tuple[str, ...]:
    """Why a phone's figures cannot be trusted; no browser reports what others took of its processor."""
    found = list(sent.complaints)
    queries, seconds = sum(map(len, sent.rounds)), sum(map(sum, sent.rounds)) / 1e3
    if queries < rule.queries or seconds < 0.9 * rule.seconds:
        found.append(f"{queries} queries in {seconds:.0f} s were received; expected {rule}")
    if not sent.settled:
        found.append(f"the warm-up did not settle within {sent.numbers['warm_up_queries']:.0f} queries")
    if sent.numbers["agreement"] < sent.numbers["gate"]:
        found.append(f"only {100 * sent.numbers['agreement']:.2f} % of the proof's pixels are as expected")
    return tuple(found)


def _median(values: Sequence[float]) -> float:
    import statistics

    return float(statistics.median(values))


def site_files(run: PhoneRun, folder: Path) -> dict[str, Path]:
    """Everything that the page needs, made in `folder`: path on the site → file."""
    import cv2

    from benchmarks.worker import input_frames
    from export.web import engine
    from export.web.folder import ENGINE, add_network, build
    from export.web.serve import files_of

    page = build(run.artifacts[0][1], folder / "page")
    found = files_of(page, "page/")
    for i, (artifact, path) in enumerate(run.artifacts):
        place = folder / f"network-{i}"
        place.mkdir()
        add_network(path, artifact, place, f"../page/{ENGINE}", tuple(engine.FILES))
        found |= {f"network-{i}/{file.name}": file for file in place.iterdir()}
    for i, frame in enumerate(input_frames(run.artifacts[0][0].preprocess.size, None)):
        cv2.imwrite(str(folder / f"{i}.png"), frame)
        found[f"frames/{i}.png"] = folder / f"{i}.png"
    (folder / "plan.json").write_text(json.dumps(run.plan()), encoding="utf-8")
    ours = Path(__file__).parent / "page"
    return found | {f"labelled/{i}": pair.image for i, pair in enumerate(run.pairs)} | {
        "": ours / "phone.html", "phone.js": ours / "phone.js", "phone-worker.js": ours / "phone-worker.js",
        "plan.json": folder / "plan.json"}


def command(args: argparse.Namespace) -> int:
    """Serve the page until a device has sent everything, and print what it sent."""
    from benchmarks.latency import table
    from benchmarks.rounds import QUICK, SINGLE_STREAM
    from calibration.data.frames import evenly_spaced
    from calibration.data.labels import find_pairs
    from export.web.proof import check
    from export.web.serve import Site, invitation
    from runtime.artifact import open_artifact

    artifacts = [open_artifact(path) for path in args.artifacts]
    for artifact, _ in artifacts:
        check(artifact)
    cli.check_folder(args.rows.parent)
    pairs = find_pairs(args.data) if args.data else []
    kept = set(evenly_spaced([pair.image for pair in pairs], args.max_frames or len(pairs)))
    run = PhoneRun(artifacts, QUICK if args.quick else SINGLE_STREAM, args.minutes,
              [pair for pair in pairs if pair.image in kept], args.rows)
    with tempfile.TemporaryDirectory(prefix="edgeseg-phone-") as folder:
        posts = {"result": run.take_result, "mask": run.take_mask, "done": run.take_end}
        site = Site(site_files(run, Path(folder)), *args.serve, posts=posts, largest_post=LARGEST_POST)
        try:
            print(invitation(f"{site.url}#{run.token}"), flush=True)
            run.done.wait()
        finally:
            site.close()
    print(table([entry for entry in run.received if entry.kind == "latency"]))
    print(f"{args.rows}: {len(run.received)} more rows. Next: python -m benchmarks report {args.rows}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m benchmarks phone`."""
    from export.web.address import address

    parser = cli.parser("benchmarks phone", "Measure on a phone, in its browser: scan the code, press Measure.",
                        "python -m benchmarks phone out/lraspp-small-360x480-fp32.onnx --rows rows.jsonl")
    parser.add_argument("artifacts", nargs="+", type=Path, metavar="ARTIFACT", help=".onnx files or their JSON")
    parser.add_argument("--data", type=Path, metavar="DIR", help="images/ and labels/, for accuracy; default: none")
    parser.add_argument("--max-frames", type=cli.positive, metavar="N",
                        help="labelled frames for accuracy, evenly spread; default: all")
    parser.add_argument("--minutes", type=cli.natural, default=0,
                        help="after the rounds, run for this long without a pause: what heat costs")
    parser.add_argument("--quick", action="store_true", help="fewer queries; the rows are marked")
    parser.add_argument("--serve", type=address, default="0.0.0.0", metavar="HOST:PORT",
                        help="where; any other than a loopback address is served to the network, over HTTPS")
    parser.add_argument("--rows", type=Path, default=Path("rows.jsonl"), metavar="FILE.jsonl",
                        help="add the rows to this file, for the report")
    return cli.run(command, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
