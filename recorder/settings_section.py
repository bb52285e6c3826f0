"""What every section of the configuration is made of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from recorder import settings_schema


def _path(value: Path) -> Path:
    if not value.name or not str(value).isprintable():
        raise ValueError("must be a path such as recordings or /var/lib/recorder/recordings")
    return value


FilePath = Annotated[Path, AfterValidator(_path)]


class Section(BaseModel):
    """A section: immutable, without keys that are not known."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, tree: Any) -> Any:
        """`routes:` with nothing below it, or with all of it commented out, means what leaving it out means."""
        if not isinstance(tree, dict):
            return tree
        branches = {key for key, field in cls.model_fields.items() if settings_schema.is_branch(field.annotation)}
        return {key: value for key, value in tree.items() if value is not None or key not in branches}


def number(value: object) -> object:
    """A choice among numbers, as YAML gives it: as text."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value, re.ASCII) else value
