"""The calls on roots: named addresses in spaces."""

from collections.abc import Mapping
from typing import Any, SupportsIndex
from urllib.parse import quote

from everspace._calls.call import Call, Page, address, an_address, integer, no_answer, no_value, page_of, text
from everspace._calls.spaces import paging
from everspace.wire import parse_address

NamedAddress = tuple[str, int]


def vas_set_root(name: str, addr: SupportsIndex) -> Call[int]:
    """PUT /tasks/{pid}/roots/{name}, of the space that the thread is in."""
    where = address(addr)
    return Call(
        "vas_set_root",
        "PUT",
        f"/tasks/{{pid}}/roots/{_encoded(name)}",
        no_value,
        {"name": name, "addr": where},
        {"addr": where},
        answer=no_answer,
        repeatable=True,
        tid_in="query",
    )


def vas_get_root(name: str) -> Call[int]:
    """GET /tasks/{pid}/roots/{name}; the address."""
    path = f"/tasks/{{pid}}/roots/{_encoded(name)}"
    return Call("vas_get_root", "GET", path, an_address, {"name": name}, repeatable=True, tid_in="query")


def space_set_root(vid: SupportsIndex, name: str, addr: SupportsIndex) -> Call[int]:
    """PUT /vas/{vid}/roots/{name}."""
    path = f"/vas/{integer(vid)}/roots/{_encoded(name)}"
    body = {"addr": address(addr)}
    return Call("space_set_root", "PUT", path, no_value, body=body, answer=no_answer, repeatable=True)


def space_get_root(vid: SupportsIndex, name: str) -> Call[int]:
    """GET /vas/{vid}/roots/{name}; the address."""
    path = f"/vas/{integer(vid)}/roots/{_encoded(name)}"
    return Call("space_get_root", "GET", path, an_address, repeatable=True)


def vas_delete_root(vid: SupportsIndex, name: str) -> Call[int]:
    """DELETE /vas/{vid}/roots/{name}."""
    vid = integer(vid)
    path = f"/vas/{vid}/roots/{_encoded(name)}"
    args = {"vid": vid, "name": name}
    return Call("vas_delete_root", "DELETE", path, no_value, args, answer=no_answer)


def vas_roots(vid: SupportsIndex, cursor: str | None = None) -> Call[Page[NamedAddress]]:
    """GET /vas/{vid}/roots, one page."""
    path = f"/vas/{integer(vid)}/roots"
    return Call(
        "vas_roots", "GET", path, page_of(_named_address), query=paging(cursor, None), repeatable=True
    )


def _encoded(name: str) -> str:
    """A root's name in a path, whatever is in it."""
    return quote(text("name", name), safe="", errors="surrogatepass")


def _named_address(item: Mapping[str, Any]) -> NamedAddress:
    return item["name"], parse_address(item["addr"])
