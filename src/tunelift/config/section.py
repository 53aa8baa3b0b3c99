"""What every section of the config is, closed, frozen, documented under its fields; and a part that several share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Annotated, Any, ClassVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

RUNTIME: dict[str, Any] = {"runtime": True}
"""`json_schema_extra` of fields that do not enter the fingerprint."""


class Section(BaseModel):
    """Closed (unknown keys are errors) and frozen; the text under a field is its documentation."""

    # Deferred: a command with a mistake is answered without building what checks a config.
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False, defer_build=True
    )

    not_here: ClassVar[Mapping[str, str]] = {}
    """Keys that one may look for in this section, with where they are or why they cannot be."""

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic takes `true` for 1 wherever a number is wanted."""
        types = set(_types(cls.model_fields[str(info.field_name)].annotation))
        if not types & {int, float} or bool in types or not any(isinstance(one, bool) for one in _scalars(value)):
            return value
        if isinstance(value, bool):
            raise PydanticCustomError("int_type" if int in types else "float_type", "A number should stand here")
        raise ValueError("expected numbers, and one of its values is true or false.")

    def identity(self) -> dict[str, Any]:
        """The section as JSON without its runtime-only fields: what enters a fingerprint."""
        return {
            name: _identity(self.__dict__[name])
            for name, field in type(self).model_fields.items()
            if not _is_runtime(field)
        }


def _types(annotation: Any) -> Iterator[Any]:
    """The types that an annotation such as `tuple[int, ...] | None` is made of."""
    yield annotation
    for argument in get_args(annotation):
        yield from _types(argument)


def _scalars(value: Any) -> Iterator[Any]:
    """What is in a value of lists and mappings."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else None
    if inner is None:
        yield value
    for one in inner or ():
        yield from _scalars(one)


def _is_runtime(field: Any) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, Mapping) and bool(extra.get("runtime"))


def _identity(value: Any) -> Any:
    if isinstance(value, Section):
        return value.identity()
    if isinstance(value, tuple):
        return [_identity(item) for item in value]
    return value


TemplateName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
TemplateValue = StrictBool | StrictInt | StrictFloat | StrictStr | None


class ModelConfig(Section):
    """Where a model comes from."""

    id: str = Field(examples=["meta-llama/Llama-3.1-8B-Instruct"])
    """A hub id such as `meta-llama/Llama-3.1-8B-Instruct`, or a local folder."""
    revision: str | None = None
    """The hub commit, tag or branch; resolved to a commit before anything runs. Only for a hub id."""
    chat_template: str | None = Field(None, examples=["configs/chat.jinja"])
    """A Jinja file to use in place of the model's own chat template: for a base model that has none, or rows with tools
    where the model's knows none. Training teaches it, and the tuned model's folder holds it."""
    template_arguments: dict[TemplateName, TemplateValue] = Field(
        default_factory=dict, examples=["{enable_thinking: false}"]
    )
    """Variables of the chat template, pinned for training, evaluation and serving alike: `{enable_thinking: false}`."""
    template_date: str = "2024-07-26"
    """The day that chat templates write which would write today's (Llama 3.2, Mistral, Granite), so that the model sees
    the same prompt tomorrow; the default is the one that Llama's templates fall back to."""

    @field_validator("template_date")
    @classmethod
    def _is_a_day(cls, value: str) -> str:
        try:
            return date.fromisoformat(value).isoformat()
        except ValueError:
            raise ValueError(f"template_date={value!r} is no day; write it as 2024-07-26") from None
