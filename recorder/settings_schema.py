"""What the models of the configuration know of a key's path: its kind, its near spellings, and faults in plain words.

A path is a tuple of keys and list positions, such as `("accounts", 0, "group")`; people read `accounts.0.group`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

Path = tuple[str | int, ...]
Fault = tuple[Path, str]
"""Where something is wrong, and what."""

_LONGEST_SHOWN = 60
_WHOLE_NUMBER = "must be a whole number"
_SECTION = "must be a section: keys with their values, one a line, indented below it"
_TEXTS = {
    "bool_parsing": "must be true or false (yes, no, on and off do as well)",
    "bool_type": "must be true or false (yes, no, on and off do as well)",
    "finite_number": "must be a number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be {ge:g} or more",
    "int_from_float": _WHOLE_NUMBER,
    "int_parsing": _WHOLE_NUMBER,
    "int_parsing_size": _WHOLE_NUMBER,
    "int_type": _WHOLE_NUMBER,
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be {le:g} or less",
    "literal_error": "must be {expected}",
    "model_attributes_type": _SECTION,
    "model_type": _SECTION,
    "path_type": "must be a path",
    "string_type": "must be text",
    "too_short": "needs at least one entry",
    "tuple_type": "must be a list: begin each entry with '- '",
}


class ContradictionError(ValueError):
    """Keys that are fine one by one and cannot be together. `faults` holds all of them."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        super().__init__("; ".join(f"{dotted(path)}: {text}" for path, text in faults))


def dotted(path: Path) -> str:
    """The path as people read it; what cannot be printed is escaped."""
    return ".".join(shown(str(part)) or "''" for part in path)


def shown(text: str) -> str:
    """`text` on one line, shortened, with nothing in it that could upset a terminal."""
    printable = "".join(
        character if character.isprintable() else repr(character)[1:-1] for character in text[: _LONGEST_SHOWN + 1]
    )
    return printable if len(text) <= _LONGEST_SHOWN else printable[:_LONGEST_SHOWN] + "…"


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The model of a section (or of a section that may be left out), None for anything else."""
    kind = _bare(annotation)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def entry_of(annotation: Any) -> Any | None:
    """What the entries of a list are, None for anything but a list."""
    kind = _bare(annotation)
    return get_args(kind)[0] if get_origin(kind) is tuple else None


def is_branch(annotation: Any) -> bool:
    """Tell whether a key holds a section or a list, not a single value."""
    return section_of(annotation) is not None or entry_of(annotation) is not None


def field_at(model: type[BaseModel], path: Path) -> FieldInfo | None:
    """The field that the keys of `path` lead to; None when they lead nowhere, or end in a list's entry."""
    annotation: Any = model
    field: FieldInfo | None = None
    for part in path:
        section, entry = section_of(annotation), entry_of(annotation)
        if section is not None and isinstance(part, str) and part in section.model_fields:
            field = section.model_fields[part]
            annotation = field.annotation
        elif entry is not None and isinstance(part, int):
            field, annotation = None, entry
        else:
            return None
    return field


def describe(fault: Mapping[str, Any], model: type[BaseModel]) -> list[Fault]:
    """Put one of pydantic's errors into words: what is wrong and what would be right."""
    path: Path = tuple(fault["loc"])
    kind = fault["type"]
    if isinstance(error := fault.get("ctx", {}).get("error"), ContradictionError):
        return error.faults
    field = field_at(model, path)
    if kind == "extra_forbidden":
        return [(path, unknown_key(model, path))]
    if kind == "missing":
        advice = f": give {field.description}" if field is not None and field.description else ""
        return [(path, f"is missing and has no default{advice}")]
    given = fault.get("input")
    if given is None:
        return [(path, "is empty; give it a value, or remove it")]
    text = _TEXTS[kind].format(**fault.get("ctx", {})) if kind in _TEXTS else str(fault["msg"])
    text = text.removeprefix("Value error, ")
    if text.startswith("must") and isinstance(given, str | int | float) and (field is None or field.repr):
        text += f", not {shown(repr(given))}"
    return [(path, text)]


def unknown_key(model: type[BaseModel], path: Path) -> str:
    """What to say of a key that its section does not know: the near spelling, or the section that knows it."""
    key = str(path[-1])
    siblings = _keys_at(model, path[:-1])
    spelling = key.lower().replace("-", "_")
    if near := difflib.get_close_matches(spelling, siblings, n=1):
        return f"unknown key; did you mean {near[0]}?"
    elsewhere = [place for place in _places(model) if place[-1] == spelling]
    if elsewhere:
        return "unknown key here; there is " + " and ".join(dotted(place) for place in elsewhere[:3])
    return f"unknown key; known here: {', '.join(siblings)}"


def _keys_at(model: type[BaseModel], path: Path) -> list[str]:
    annotation: Any = model
    for part in path:
        section = section_of(annotation)
        annotation = section.model_fields[str(part)].annotation if section is not None else entry_of(annotation)
    section = section_of(annotation)
    return list(section.model_fields) if section is not None else []


def _places(model: type[BaseModel], above: Path = ()) -> Iterator[Path]:
    for key, field in model.model_fields.items():
        yield (*above, key)
        if (section := section_of(field.annotation)) is not None:
            yield from _places(section, (*above, key))
        elif (entry := section_of(entry_of(field.annotation))) is not None:
            yield from _places(entry, (*above, key, 0))


def _bare(annotation: Any) -> Any:
    """Without Annotated, and without the None of what may be left out."""
    if get_origin(annotation) is Annotated:
        return _bare(get_args(annotation)[0])
    alternatives = [one for one in get_args(annotation) if one is not NoneType]
    if NoneType in get_args(annotation) and len(alternatives) == 1:
        return _bare(alternatives[0])
    return annotation
