"""Kinds of members that the control routes' JSON has, and how strict it is."""

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.functional_serializers import PlainSerializer

from everspace.wire import (
    LIFETIME_NAMES,
    RESOURCE_NAMES,
    SHARING_NAMES,
    TYPE_NAMES,
    TYPE_VALUES,
    hex_address,
    parse_address,
)

TYPE_INVALID = 3
"""What an unknown attach type becomes, so that the engine refuses it in the order of its other errors."""


def _attach_type(value: object) -> int:
    return TYPE_VALUES.get(value, TYPE_INVALID) if isinstance(value, str) else TYPE_INVALID


ADDRESS_TEXT: Final = {"type": "string", "pattern": "^(0x[0-9a-fA-F]+|[0-9]+)$"}
Address = Annotated[
    int,
    BeforeValidator(parse_address),
    WithJsonSchema({"anyOf": [ADDRESS_TEXT, {"type": "integer"}]}),
]
"""An address coming in: "0x…", a decimal string or an integer."""
WORD_MAX: Final = 2**64 - 1


def _fits(value: int) -> int:
    """Raises ValueError: more than a register holds."""
    if value > WORD_MAX:
        raise ValueError(f"more than {WORD_MAX}")
    return value


FITS = AfterValidator(_fits)
"""At most 64 bits. A bound of pydantic's own is a float in what it says and in the schema."""
Word = Annotated[int, FITS, WithJsonSchema({"type": "integer", "maximum": WORD_MAX})]
"""A length, or bits, of a call on memory: what a register holds. What is negative the engine judges."""
WordAddress = Annotated[
    int,
    BeforeValidator(parse_address),
    FITS,
    WithJsonSchema({"anyOf": [ADDRESS_TEXT, {"type": "integer", "maximum": WORD_MAX}]}),
]
"""An address of a call on memory."""
HexAddress = Annotated[
    int,
    PlainSerializer(hex_address, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^0x[0-9a-f]+$"}),
]
"""An address going out."""
AttachType = Annotated[
    int, BeforeValidator(_attach_type), WithJsonSchema({"type": "string", "enum": list(TYPE_VALUES)})
]
TypeName = Annotated[
    int,
    PlainSerializer(TYPE_NAMES.__getitem__, return_type=str),
    WithJsonSchema({"type": "string", "enum": list(TYPE_VALUES)}),
]
Resource = Annotated[str, WithJsonSchema({"type": "string", "enum": list(RESOURCE_NAMES)})]
Sharing = Annotated[str, WithJsonSchema({"type": "string", "enum": list(SHARING_NAMES)})]
Lifetime = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "enum": list(LIFETIME_NAMES),
            "description": "transient: gone with the last detach, at the latest with the service.",
        }
    ),
]
Tid = Annotated[int | None, Field(description="A thread of the task; by default its main thread.")]
LimitValue = Annotated[int | None, Field(description="null: no limit.")]
Seconds = Annotated[float, Field(allow_inf_nan=False)]


class Args(BaseModel):
    """Arguments of a call: no conversion of types, no unknown members."""

    model_config = ConfigDict(extra="forbid", strict=True)


class View(BaseModel):
    """An answer."""

    model_config = ConfigDict(extra="forbid")
