"""`python -m export.web`: a network in, a page that segments in the browser out, and a server for a phone."""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from export.build import build as export_to
from export.command import job_from, parser_for, write_record
from export.onnx import TARGET
from export.web.address import address
from runtime import cli
from runtime.artifact import json_path
from runtime.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Parse and run."""
    logits = replace(TARGET, outputs=("low", "logits"))
    parser = parser_for("web", logits, "Make a page that segments in the browser: one static folder, hosted anywhere. "
                        "An .onnx artifact of ours goes in as it is; its flags were those of its own export.",
                        "python -m export.web lraspp-small --out out/web --serve")
    parser.add_argument("--picture", type=Path, metavar="FILE",
                        help="what the page proves itself with, published with it; default: a drawn street")
    parser.add_argument("--no-webgpu", action="store_true", help="leave WebGPU's engine out of the folder (27 MB)")
    parser.add_argument("--serve", nargs="?", type=address, const=("127.0.0.1", 8000), metavar="HOST:PORT",
                        help="serve the folder until Ctrl-C: without HOST on this machine alone; 0.0.0.0 for a phone "
                             "in this network, over HTTPS")
    return cli.run(_command, parser, argv)


def _command(args: argparse.Namespace) -> int:
    from export.web.folder import build, check_out
    from runtime.artifact import open_artifact, size_mb

    check_out(args.out)
    if args.picture and not args.picture.is_file():
        raise UserError(f"--picture {args.picture} is not a file; expected a photograph")
    with _artifact(args) as path:
        build(path, args.out, webgpu=not args.no_webgpu, picture=args.picture, say=print)
        artifact, file = open_artifact(path)
        engine = args.out / file.name
    engines = "WASM" if args.no_webgpu else "WASM and WebGPU"
    print(f"{args.out}: {size_mb(args.out):.1f} MB, {engines}, with {engine.name}")
    write_record(args, engine, artifact)
    if args.serve:
        return serve(args.out, *args.serve)
    print("Next: copy the folder to any server, or the same command with --serve")
    return 0


@contextmanager
def _artifact(args: argparse.Namespace) -> Iterator[Path]:
    """The artifact that was named, or one that is exported for this page alone."""
    path = Path(args.name)
    if path.name.endswith(".onnx.json") or (path.suffix == ".onnx" and json_path(path).is_file()):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="edgeseg-web-") as folder:
        yield export_to("onnx", replace(job_from(args), out=Path(folder)), reuse=False)


def serve(folder: Path, host: str, port: int) -> int:
    """Serve the folder until Ctrl-C; 0, the command's exit code."""
    from export.web.serve import Site, files_of, invitation

    site = Site(files_of(folder), host, port)
    try:
        print(invitation(site.url), flush=True)
        threading.Event().wait()
    except KeyboardInterrupt:
        print("closed")
    finally:
        site.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
