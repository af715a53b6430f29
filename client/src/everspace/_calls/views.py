"""The calls on views (mmview) and slots (multias) of a task."""

from collections.abc import Mapping
from typing import Any, Final, SupportsIndex

from everspace._calls.call import Call, address, integer, no_answer, no_value, plain_int
from everspace.constants import MMVIEW_SHARE, MMVIEW_UNSHARE

_RANGE: Final = ("addr", "len")
_OPERANDS: Final[Mapping[int, tuple[str, ...]]] = {MMVIEW_UNSHARE: _RANGE, MMVIEW_SHARE: _RANGE}
"""How the arguments of an operation are called; that of any other is `id`, whether it takes one or not."""


def mmview(op: SupportsIndex, *args: SupportsIndex) -> Call[int]:
    """POST /tasks/{pid}/mmview. Which operation takes what is the service's to judge."""
    number = integer(op)
    names = _OPERANDS.get(number, ("id",))
    if len(args) > len(names):
        raise TypeError(f"mmview operation {number} takes at most {len(names)} arguments")
    given = {
        name: address(value) if name == "addr" else integer(value)
        for name, value in zip(names, args, strict=False)
    }
    return _of_value("mmview", {"op": number, **given})


def mmview_create() -> Call[int]:
    """POST /tasks/{pid}/mmview_create; the view's id."""
    return _of_value("mmview_create", {})


def mmview_migrate(id: SupportsIndex) -> Call[int]:
    """POST /tasks/{pid}/mmview_migrate; the former view's id."""
    return _of_value("mmview_migrate", {"id": integer(id)})


def mmview_delete(id: SupportsIndex) -> Call[int]:
    """POST /tasks/{pid}/mmview_delete."""
    return _of_value("mmview_delete", {"id": integer(id)})


def mmview_unshare(addr: SupportsIndex, len: SupportsIndex) -> Call[int]:  # noqa: A002 - the name of the call
    """POST /tasks/{pid}/mmview_unshare."""
    return _of_value("mmview_unshare", {"addr": address(addr), "len": integer(len)})


def new_as() -> Call[int]:
    """POST /tasks/{pid}/new_as; the slot."""
    return _of_value("new_as", {})


def switch_as(n: SupportsIndex) -> Call[int]:
    """POST /tasks/{pid}/switch_as."""
    args = {"n": integer(n)}
    path = "/tasks/{pid}/switch_as"
    return Call(
        "switch_as", "POST", path, no_value, args, args, answer=no_answer, repeatable=True, tid_in="body"
    )


def _of_value(name: str, args: dict[str, Any]) -> Call[int]:
    return Call(name, "POST", f"/tasks/{{pid}}/{name}", _value, args, args, keyed=True, tid_in="body")


def _value(value: Any) -> int:
    """A number: itself, or the object {"value"}."""
    return plain_int(value["value"] if isinstance(value, dict) else value)
