"""Every error that a person may see, in one table (`pytest tests/test_errors.py -s`), and the rules it follows.

The table is read from the source, so that a new message cannot be forgotten. What is computed stands as {…}.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from runtime import errors
from runtime.sessions import _cuda as cuda
from tests.conftest import PACKAGES, ROOT, tree

KINDS = {name for module in (errors, cuda) for name, value in vars(module).items()
         if isinstance(value, type) and issubclass(value, errors.EdgesegError) and value is not errors.MissingLibrary}
PASSED_ON = re.compile(r"""^\{.*(\.removeprefix\(.*: error: |answer\['error'\]).*\}$""")
"""Messages of another process of ours, which follow the rules already."""

EXPECTED = re.compile(r"\bexpected\b|\bknown: |\b(takes?|needs?|reads|knows|opens|goes with|belong together)\b|"
                      r"\b(was|were) (received|asked for)\b|nothing was written|\bkept\b|\bdone\b")
"""Words that say what would have been right, or what became of the work."""


class Raised(NamedTuple):
    """One place that raises."""

    place: str
    kind: str
    what: str
    try_: str


def text(node: ast.expr) -> list[str]:
    """What an expression may say: one text, or both of `a if test else b`."""
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else f"{{{ast.unparse(part.value)}}}"
                        for part in node.values if isinstance(part, ast.Constant | ast.FormattedValue))]
    if isinstance(node, ast.IfExp):
        return text(node.body) + text(node.orelse)
    return [f"{{{ast.unparse(node)}}}"]


def errors_in(path: Path) -> Iterator[Raised]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS and node.args:
            tries = [part for word in node.keywords if word.arg == "try_" for part in text(word.value)]
            for what in text(node.args[0]):
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                yield Raised(place, node.func.id, what, " / ".join(filter(None, tries)))


RAISED = [error for package in PACKAGES
          for path in sorted((ROOT / package).rglob("*.py")) for error in errors_in(path)]


def test_the_table_of_all_errors_for_reading_aloud():
    print(f"\n{'where':46}{'kind':12} what → what to try")
    for error in RAISED:
        print(f"{error.place:46}{error.kind:12} {error.what}" + (f" → {error.try_}" if error.try_ else ""))
    assert len(RAISED) > 200  # fewer means that the reading above has missed places
    assert {error.kind for error in RAISED} >= {"UserError", "GateFailed", "Incomplete", "StageFailed", "CudaError"}


def test_a_users_error_says_what_was_expected_or_what_to_type_next():
    assert [error for error in RAISED if error.kind in ("UserError", "CudaError") and not PASSED_ON.search(error.what)
            and not error.try_ and not EXPECTED.search(error.what)] == []


def test_no_error_ends_in_a_full_stop_because_the_next_command_follows_one():
    ends = (".", "!", " ")
    assert [error for error in RAISED if error.what.endswith(ends) or error.try_.endswith(ends)] == []


def test_errors_begin_with_what_was_received_and_judge_nobody():
    judging = re.compile(r"^(error|failed)\b|\b(please|sorry|oops|invalid|illegal|unable to)\b", re.IGNORECASE)
    assert [error for error in RAISED if judging.search(error.what)] == []
