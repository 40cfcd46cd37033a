"""The networks of `export/models/`, read without running their code.

A family file states its networks in one assignment, `SPECS = (ModelSpec(...), ...)`, which may use the names of
`export.spec` only. Listing evaluates that assignment alone, so that it needs no torch and takes milliseconds; building
a network imports the file and calls the builder.
"""

from __future__ import annotations

import ast
import difflib
import importlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from export import spec
from export.origins.origin import Origin
from export.spec import ModelSpec
from runtime.errors import UserError

if TYPE_CHECKING:
    from torch import nn

MODELS = Path(__file__).parents[1] / "models"


@cache
def _families() -> dict[str, tuple[str, ModelSpec]]:
    """Network name → (module name, spec), from the files' SPECS assignments."""
    found: dict[str, tuple[str, ModelSpec]] = {}
    for path in sorted(MODELS.glob("[!_]*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(target, ast.Name) and target.id == "SPECS" and isinstance(node, (ast.Assign, ast.AnnAssign)):
                assert node.value is not None
                code = compile(ast.Expression(node.value), str(path), "eval")
                for entry in eval(code, {name: getattr(spec, name) for name in spec.__all__}):
                    assert entry.name not in found, f"two networks are called {entry.name}"
                    found[entry.name] = (f"export.models.{path.stem}", entry)
    return found


def names() -> list[str]:
    """All network names, sorted."""
    return sorted(_families())


def origin(name: str) -> Origin:
    """The listed network called `name`.

    Raises:
        UserError: there is none; the message names the nearest match.
    """
    families = _families()
    if name not in families:
        near = difflib.get_close_matches(name, families, n=1, cutoff=0.4)
        raise UserError(f"unknown network {name!r}; known: {', '.join(sorted(families))}",
                        try_=near[0] if near else "python -m export.models, which lists them")
    module, entry = families[name]

    def build(classes: int) -> nn.Module:
        built: nn.Module = getattr(importlib.import_module(module), entry.builder)(classes=classes, **entry.options)
        return built

    return Origin(entry, build, reference=lambda: getattr(importlib.import_module(module), "REFERENCE", None))
