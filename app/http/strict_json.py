"""JSON as RFC 8259 means it: no NaN, no duplicate members, no nesting that exhausts a stack, UTF-8 only."""

import json
from typing import Any, NoReturn


class JsonError(json.JSONDecodeError):
    """The text is not JSON that this service takes. The message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "", 0)

    def __str__(self) -> str:
        return self.msg


def loads(text: bytes | bytearray) -> Any:
    """The value of a JSON text. Raises JsonError, whatever is wrong with it."""
    try:
        return _DECODER.decode(text.decode("utf-8"))
    except JsonError:
        raise
    except json.JSONDecodeError as cause:
        raise JsonError(f"{cause.msg} at character {cause.pos}") from None
    except UnicodeDecodeError as cause:
        raise JsonError(f"not UTF-8 at byte {cause.start}") from None
    except RecursionError:
        raise JsonError("nested too deeply") from None
    except ValueError:
        raise JsonError("a number has too many digits") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise JsonError("a member is named twice")
    return members


def _refuse(constant: str) -> NoReturn:
    raise JsonError(f"{constant} is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)
"""Made once: it costs more than a short text."""
