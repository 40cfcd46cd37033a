"""What a file from elsewhere can do here: be read or be refused, never run, reach out or be opened unchecked.

Beside the behaviour of one place, which its own test shows: `tests/runtime/test_artifact.py` (an artifact's JSON names
a plain file beside it), `tests/export/test_weights.py` (checkpoints with code, downloads with another hash),
`tests/runtime/test_serve.py` (who may look on), `tests/export/coreml/test_reference.py` (weights inside the package).
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator

import pytest

from runtime import Segmenter, Stream
from runtime.artifact import open_artifact
from runtime.errors import UserError
from runtime.serve import Server
from runtime.sessions.onnx import OnnxSession
from tests import tiny
from tests.conftest import PACKAGES, ROOT, tree

RUNS_CODE = {"eval", "exec", "os.system", "os.popen", "pickle.load", "pickle.loads", "marshal.loads", "yaml.load"}


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """File, name of the function, and the call, of everything that ships."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(tree(path)):
                if isinstance(node, ast.Call):
                    yield str(path.relative_to(ROOT)), ast.unparse(node.func), node


def keyword(call: ast.Call, name: str) -> str:
    return next((ast.unparse(word.value) for word in call.keywords if word.arg == name), "")


def test_nothing_that_is_read_can_run_code():
    ours = list(calls())
    assert {file for file, name, _ in ours if name in RUNS_CODE} == {"export/origins/listed.py"}  # `SPECS` of our files
    assert {keyword(call, "weights_only") for _, name, call in ours if name == "torch.load"} == {"True"}
    assert [file for file, _, call in ours if keyword(call, "allow_pickle") == "True"] == []
    assert [file for file, _, call in ours if keyword(call, "shell") == "True"] == []


@pytest.mark.parametrize("opened", [Segmenter.open, lambda path: Stream(path, [])])
def test_a_changed_engine_is_refused_before_any_engine_sees_it(tmp_path, monkeypatch, opened):
    path = tiny.artifact(tmp_path)
    path.write_bytes(path.read_bytes() + b"x")
    monkeypatch.setattr(OnnxSession, "__init__", lambda *_, **__: pytest.fail("the engine was opened"))
    with pytest.raises(UserError, match="SHA-256"):
        opened(path)


def test_a_link_beside_the_json_cannot_bring_in_another_file(tmp_path):
    path = tiny.artifact(tmp_path)
    path.unlink()
    (tmp_path / "elsewhere").write_bytes(b"another engine")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="SHA-256"):
        open_artifact(path)


def test_the_page_is_for_this_machine_unless_another_address_is_asked_for():
    assert inspect.signature(Server).parameters["host"].default == "127.0.0.1"
    assert [file for file, name, _ in calls() if name.endswith(("HTTPServer", ".bind"))] == [
        "runtime/serve.py", "export/web/serve.py"]  # the other one: tests/export/web/test_serve.py
    server = Server("tiny", (), (), 0)
    try:
        assert server._server.server_address[0] == "127.0.0.1"
    finally:
        server.close()
