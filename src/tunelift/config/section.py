"""What every section of the config is, closed, frozen, documented under its fields; and a part that several share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

RUNTIME: dict[str, Any] = {"runtime": True}
"""`json_schema_extra` of fields that do not enter the fingerprint."""


class Section(BaseModel):
    """Closed (unknown keys are errors) and frozen; the text under a field is its documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)

    not_here: ClassVar[Mapping[str, str]] = {}
    """Keys that one may look for in this section, with where they are or why they cannot be."""

    def identity(self) -> dict[str, Any]:
        """The section as JSON without its runtime-only fields: what enters a fingerprint."""
        return {
            name: _identity(self.__dict__[name])
            for name, field in type(self).model_fields.items()
            if not _is_runtime(field)
        }


def _is_runtime(field: Any) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, Mapping) and bool(extra.get("runtime"))


def _identity(value: Any) -> Any:
    if isinstance(value, Section):
        return value.identity()
    if isinstance(value, tuple):
        return [_identity(item) for item in value]
    return value


class ModelConfig(Section):
    """Where a model comes from."""

    id: str = Field(examples=["meta-llama/Llama-3.1-8B-Instruct"])
    """A hub id such as `meta-llama/Llama-3.1-8B-Instruct`, or a local folder."""
    revision: str | None = None
    """The hub commit, tag or branch; resolved to a commit before anything runs. Only for a hub id."""
