"""`python -m runtime.schema`: the JSON Schema of an artifact, made from the types that read it here.

`docs/artifact.schema.json` is what it prints, for people who read artifacts in other languages; a test holds the two
together. A schema knows types and ranges; what must agree between fields is said in docs/artifact.md.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from typing import Any

from runtime import cli


def schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of what `runtime.artifact.to_json` writes, with our docstrings as its descriptions."""
    import msgspec

    from runtime.artifact import FORMAT, Artifact

    (made,), parts = msgspec.json.schema_components([Artifact], ref_template="#/$defs/{name}")
    assert made == {"$ref": "#/$defs/Artifact"}
    for part in parts.values():
        _finish(part)
    whole = parts.pop("Artifact")
    version = {"description": "version of this form", "const": FORMAT}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole,
            "properties": {"format": version, **whole["properties"]}, "required": ["format", *whole["required"]],
            "$defs": parts}


def _finish(part: dict[str, Any]) -> None:
    """In place: all fields are always written and no others are read; "Attributes:" describe the fields."""
    if "properties" not in part:
        return
    summary, _, attributes = part.get("description", "").partition("Attributes:")
    part["description"] = " ".join(summary.split())
    for text in re.split(r"\n\s*(?=\w+: )", attributes):
        name, _, meaning = text.strip().partition(": ")
        if name in part["properties"]:
            part["properties"][name] = {"description": " ".join(meaning.split()), **part["properties"][name]}
    for field in part["properties"].values():
        field.pop("default", None)
    part["required"] = list(part["properties"])
    part["additionalProperties"] = False


def text() -> str:
    """The schema as it stands in docs/artifact.schema.json."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m runtime.schema`."""
    return cli.run(_print, cli.parser("runtime.schema", "Print the JSON Schema of an artifact.",
                                      "python -m runtime.schema > docs/artifact.schema.json"), argv)


def _print(args: argparse.Namespace) -> int:
    print(text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
