"""The calls on heaps inside segments."""

from typing import SupportsIndex

from everspace._calls.call import Call, address, an_address, given, integer, no_answer, no_value
from everspace.models import HeapUsage


def vas_malloc(size: SupportsIndex, sid: SupportsIndex | None = None) -> Call[int]:
    """POST /tasks/{pid}/heap; the address."""
    args = given(size=integer(size), sid=None if sid is None else integer(sid))
    return Call("vas_malloc", "POST", "/tasks/{pid}/heap", an_address, args, args, keyed=True, tid_in="body")


def vas_free(addr: SupportsIndex) -> Call[int]:
    """DELETE /tasks/{pid}/heap/{addr}."""
    where = address(addr)
    path = f"/tasks/{{pid}}/heap/{where}"
    return Call("vas_free", "DELETE", path, no_value, {"addr": where}, answer=no_answer, tid_in="query")


def heap_usage(sid: SupportsIndex) -> Call[HeapUsage]:
    """GET /segments/{sid}/heap."""
    sid = integer(sid)
    path = f"/segments/{sid}/heap"
    return Call("heap_usage", "GET", path, HeapUsage.from_json, {"sid": sid}, repeatable=True)
