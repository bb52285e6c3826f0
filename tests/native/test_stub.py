"""The hand-written stub says what the module has: every name, every argument, in order."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from recorder import native
from recorder.native import _native

STUB = ast.parse((Path(native.__file__).parent / "_native.pyi").read_text(encoding="utf-8"))


def _functions(nodes: list[ast.stmt]) -> dict[str, list[str]]:
    return {node.name: [a.arg for a in node.args.args] for node in nodes if isinstance(node, ast.FunctionDef)}


def _arguments(function: object) -> list[str]:
    [(text, *_)] = function.__nb_signature__  # type: ignore[attr-defined]
    signature = ast.parse(re.sub(r"\\\d", "...", text) + ": ...").body[0]
    assert isinstance(signature, ast.FunctionDef)
    return [a.arg for a in signature.args.args]


def test_stub_and_module_have_the_same_names() -> None:
    stubbed = {node.name for node in STUB.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert stubbed == {name for name in vars(_native) if not name.startswith("__")}
    assert set(native.__all__) == {name for name in stubbed if not name.startswith("_")}


def test_stub_and_functions_have_the_same_arguments() -> None:
    for name, arguments in _functions(STUB.body).items():
        assert _arguments(getattr(_native, name)) == arguments, name


def test_stub_and_classes_have_the_same_members() -> None:
    for node in STUB.body:
        if isinstance(node, ast.ClassDef):
            stubbed = set(_functions(node.body)) - {"__init__"}
            assert stubbed == {name for name in vars(getattr(_native, node.name)) if not name.startswith("__")}


def test_limits_are_large_enough_for_a_server() -> None:
    limits = native.limits()
    assert limits["max_calls"] >= 1000
    assert limits["max_conference_ports"] >= 2 * limits["max_calls"]
    assert all(value > 0 for value in limits.values())


def test_versions_are_told() -> None:
    assert native.pjproject_version()[0].isdigit()
    assert native.openssl_version().startswith("OpenSSL")
