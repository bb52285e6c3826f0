"""Overrides from environment variables, put into the tree that the YAML file gave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from recorder import yaml_source
from recorder.settings_schema import Path, dotted, entry_of, is_branch, section_of, shown, unknown_key

PREFIX = "RECORDER__"


@dataclass(slots=True)
class Overrides:
    """The tree with the overrides in it, the variable that each path came from, and what could not be applied."""

    tree: dict[str, Any]
    origins: dict[Path, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def origin_of(self, path: Path) -> str | None:
        """The variable that set `path`, or something that `path` is within; None when the file did."""
        return next((self.origins[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self.origins), None)


def apply(tree: dict[str, Any], model: type[BaseModel], environment: Mapping[str, str]) -> Overrides:
    """Put every override of `environment` into a copy of `tree`. Raises nothing."""
    overrides = Overrides(tree)
    applied: dict[Path, str] = {}
    variables = [(variable, value) for variable, value in environment.items() if variable.startswith(PREFIX)]
    for variable, value in sorted(variables, key=lambda pair: _order(pair[0])):
        keys = variable.removeprefix(PREFIX).lower().split("__")
        try:
            path, annotation = _resolve(model, keys)
            new_entry = _first_new_entry(overrides.tree, path)
            overrides.tree = _with(overrides.tree, path, 0, _value(value, annotation))
        except ValueError as error:
            overrides.problems.append(f"environment variable {shown(variable)}: {error}")
            continue
        if path in applied:
            overrides.problems.append(f"environment variable {variable}: sets the same key as {applied[path]}")
        applied[path] = variable
        overrides.origins[path] = variable
        if new_entry is not None:
            overrides.origins.setdefault(new_entry, variable)
    return overrides


def _order(variable: str) -> list[tuple[int, str]]:
    """Sections before what is in them, and entry 2 before entry 10."""
    return [(int(part) if _is_position(part) else -1, part) for part in variable.split("__")]


def _is_position(part: str) -> bool:
    return part.isascii() and part.isdecimal() and len(part) <= 6


def _resolve(model: type[BaseModel], keys: list[str]) -> tuple[Path, Any]:
    """The path that the variable's name spells, and what belongs there. Raises ValueError for one that is not."""
    annotation: Any = model
    path: Path = ()
    for key in keys:
        section, entry = section_of(annotation), entry_of(annotation)
        if section is not None:
            path = (*path, key)
            if key not in section.model_fields:
                raise ValueError(f"{dotted(path)}: {unknown_key(model, path)}")
            annotation = section.model_fields[key].annotation
        elif entry is not None:
            if not _is_position(key):
                raise ValueError(
                    f"{dotted(path)} is a list: give a position, 0 for the first entry, not {shown(key)!r}"
                )
            path, annotation = (*path, int(key)), entry
        else:
            raise ValueError(f"{dotted(path)} is a single value; it has no {shown(key)!r} in it")
    return path, annotation


def _value(text: str, annotation: Any) -> Any:
    if any("\ud800" <= character <= "\udfff" for character in text):  # how Python shows bytes that are not UTF-8
        raise ValueError("its value is not UTF-8 text")
    if not is_branch(annotation) and text[:1] not in ('"', "'"):
        # A regular expression or a header's name is no YAML, and quoting twice is a trap.
        return None if text.strip() in ("", "~", "null") else text
    document = yaml_source.read(text)
    if document.problems:
        raise ValueError(f"its value cannot be used: {document.problems[0]}")
    return document.tree


def _first_new_entry(tree: Any, path: Path) -> Path | None:
    """The list entry on the way to `path` that is not there yet, so that what it lacks is told by its variable."""
    node = tree
    for depth, part in enumerate(path):
        if isinstance(part, int) and not (isinstance(node, list) and part < len(node)):
            return path[: depth + 1]
        node = node[part] if isinstance(part, int) else node.get(part) if isinstance(node, dict) else None
    return None


def _with(node: Any, path: Path, depth: int, value: Any) -> Any:
    """A copy of `node`, which stands at `path[:depth]`, with `path` set in it; what is missing on the way is made.

    A copy, because aliases share a node with other places, and because a fault further down must change nothing.
    """
    if depth == len(path):
        return value
    part, here = path[depth], dotted(path[:depth])
    if isinstance(part, int):
        entries = [] if node is None else node
        if not isinstance(entries, list):
            raise ValueError(f"{here} is no list in the file")
        if part > len(entries):
            raise ValueError(f"{here} has {len(entries)} entries, so the next one is {len(entries)}, not {part}")
        inner = entries[part] if part < len(entries) else None
        return [*entries[:part], _with(inner, path, depth + 1, value), *entries[part + 1 :]]
    section = {} if node is None else node
    if not isinstance(section, dict):
        raise ValueError(f"{here} is no section in the file")
    return section | {part: _with(section.get(part), path, depth + 1, value)}
