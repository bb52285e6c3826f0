"""YAML text as plain values with the line each came from.

Every scalar stays the text that was written, except an unquoted null: what is a number or a switch is the model's to
say. So `id: 0123` is no octal, `group: no` no falsehood, `dialled: 12:30` no 750, and `port: yes` no 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge"))
_SURROGATE = re.compile("[\ud800-\udfff]")
_HINTS = {
    r"character '\t'": "indent with blanks, not tabs",
    "mapping values are not allowed here": "check the indentation, and quote a value that contains ': '",
    "character '@'": "put the value in quotes",
    "character '`'": "put the value in quotes",
    "character '%'": "put the value in quotes",
}


@dataclass(slots=True)
class Document:
    """One YAML document: mappings as dict, sequences as list, scalars as str or None; None when it is empty.

    `problems` holds one line a fault; with any, `tree` holds what could be understood.
    """

    tree: Any = None
    problems: list[str] = field(default_factory=list)
    root: yaml.Node | None = None

    def line_of(self, path: Sequence[str | int]) -> int | None:
        """The line of the key or entry at `path`, or of the nearest one above it that was written. Counts from 1."""
        node, line = self.root, None
        for part in path:
            found = _step(node, part) if node is not None else None
            if found is None:
                break
            line, node = found
        return line


def read(text: str) -> Document:
    """Read one YAML document. Raises nothing: what is wrong with the text is in `problems`."""
    document = Document()
    try:
        document.root = yaml.compose(text, yaml.SafeLoader)
        if document.root is not None:
            document.tree = _Builder(document.problems).build(document.root)
    except yaml.YAMLError as error:
        document.problems.append(_describe(error, text))
    except RecursionError:
        document.problems.append("is nested too deeply")
    except (ValueError, ArithmeticError) as error:  # what PyYAML lets through: "\UFFFFFFFF" names no character
        document.problems.append(f"is not YAML: {error}")
    return document


class _Builder:
    """Turns nodes into values. A node that several aliases name is built once and shared."""

    def __init__(self, problems: list[str]) -> None:
        self._problems = problems
        self._built: dict[int, Any] = {}
        self._under_way: set[int] = set()

    def build(self, node: yaml.Node) -> Any:
        key = id(node)
        if key in self._under_way:
            self._fault(node, "refers to itself")
            return None
        if key not in self._built:
            self._under_way.add(key)
            self._built[key] = self._make(node)
            self._under_way.discard(key)
        return self._built[key]

    def _make(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALAR_TAGS:
            if _SURROGATE.search(node.value):  # written "\ud800"; it can be neither printed nor stored
                self._fault(node, "holds half of a character pair (U+D800 to U+DFFF)")
                return None
            return None if node.tag == _TAG + "null" and node.style is None else node.value
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.build(entry) for entry in node.value]
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node)
        self._fault(node, f"the tag {node.tag.replace(_TAG, '!!')} is not supported; give a plain value")
        return None

    def _mapping(self, node: yaml.MappingNode) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            if key.tag == _TAG + "merge":
                merged = self._merged(value) | merged
            elif not isinstance(key, yaml.ScalarNode):
                self._fault(key, "a key must be a word; put a value that begins with '{' or '[' in quotes")
            elif key.value in own:
                self._fault(key, f"{key.value}: is there already in line {lines[key.value]}; keep one of them")
            else:
                own[key.value] = self.build(value)
                lines[key.value] = _line(key)
        return merged | own

    def _merged(self, node: yaml.Node) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for source in reversed(node.value) if isinstance(node, yaml.SequenceNode) else (node,):
            value = self.build(source)
            if isinstance(value, dict):
                merged |= value
            else:
                self._fault(source, "<<: must name a mapping")
        return merged

    def _fault(self, node: yaml.Node, text: str) -> None:
        self._problems.append(f"line {_line(node)}: {text}")


def _step(node: yaml.Node, part: str | int) -> tuple[int, yaml.Node] | None:
    """From a node to its child under `part`, with the line where that begins."""
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and 0 <= part < len(node.value):
        return _line(node.value[part]), node.value[part]
    if not isinstance(node, yaml.MappingNode):
        return None
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value == part and key.tag != _TAG + "merge":
            return _line(key), value
    for key, value in node.value:
        if key.tag == _TAG + "merge":
            for source in value.value if isinstance(value, yaml.SequenceNode) else (value,):
                if source is not node and (found := _step(source, part)):
                    return found
    return None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _describe(error: yaml.YAMLError, text: str) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        character = ord(error.character) if isinstance(error.character, str) else error.character
        return f"line {line}, column {column}: is not YAML: the character U+{character:04X} is not allowed"
    mark = getattr(error, "problem_mark", None)
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = str(getattr(error, "problem", None) or error)
    context, start = getattr(error, "context", None), getattr(error, "context_mark", None)
    if context and start and mark and start.line != mark.line:
        problem += f" ({context} that begins in line {start.line + 1})"
    hint = next((f"; {advice}" for sign, advice in _HINTS.items() if sign in problem), "")
    return f"{where}is not YAML: {problem}{hint}"
