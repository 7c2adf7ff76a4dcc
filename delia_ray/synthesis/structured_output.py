"""Structured outputs: JSON schema, regular expression or choice. vLLM masks every token that would violate them."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, assert_never

from pydantic import ConfigDict, Field, field_validator

from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.core.fingerprint import to_canonical_json
from delia_ray.core.text.patterns import check_pattern, is_full_match


class JsonForm(Config):
    """JSON that conforms to a schema."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    kind: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")
    """JSON Schema, draft 2020-12."""

    @field_validator("schema_")
    @classmethod
    def _check_schema(cls, schema: dict[str, Any]) -> dict[str, Any]:
        from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415  only structured answers need it

        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            raise UserError(f"{error.json_path}: {error.message.splitlines()[0][:200]}; write a JSON Schema") from None
        return schema


class RegexForm(Config):
    """A text that a regular expression matches in full."""

    kind: Literal["regex"]
    pattern: str = Field(min_length=1)
    """The expression; vLLM's grammars support neither look-around nor back-references."""

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str) -> str:
        return check_pattern(pattern)


class ChoiceForm(Config):
    """One of several texts."""

    kind: Literal["choice"]
    options: tuple[Annotated[str, Field(min_length=1)], ...] = Field(min_length=1)
    """The allowed texts."""

    @field_validator("options")
    @classmethod
    def _check_trimmed(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        if untrimmed := next((option for option in options if option != option.strip()), None):
            raise UserError(f"{untrimmed!r} has blanks at an end, and answers are trimmed; take them out")
        return options


Structure = Annotated[JsonForm | RegexForm | ChoiceForm, Field(discriminator="kind")]


def build_structured_outputs(form: JsonForm | RegexForm | ChoiceForm) -> dict[str, Any]:
    """Build vLLM's parameter ``structured_outputs``, for its Python API and its server."""
    match form:
        case JsonForm():
            return {"json": to_canonical_json(form.schema_)}  # as text, since a table would pad a nested object with nulls
        case RegexForm():
            return {"regex": form.pattern}
        case ChoiceForm():
            return {"choice": list(form.options)}
        case _:
            assert_never(form)


def has_form(form: JsonForm | RegexForm | ChoiceForm, text: str) -> bool:
    """Whether ``text``, which is trimmed, conforms to ``form``. A server may ignore ``structured_outputs``."""
    match form:
        case JsonForm():
            return _is_valid(to_canonical_json(form.schema_), text)
        case RegexForm():
            return _matches(form.pattern, text)
        case ChoiceForm():
            return text in form.options
        case _:
            assert_never(form)


def _matches(pattern: str, text: str) -> bool:
    try:
        return is_full_match(pattern, text)
    except TimeoutError:  # a pattern that backtracks: an answer that cannot be checked is not kept
        return False


def _is_valid(schema: str, text: str) -> bool:
    try:
        return _build_validator(schema).is_valid(json.loads(text))
    except (ValueError, RecursionError):
        return False


@lru_cache(maxsize=4)
def _build_validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator  # noqa: PLC0415

    loaded: Mapping[str, Any] = json.loads(schema)
    return Draft202012Validator(loaded)
