"""The calls on roots: named addresses in spaces."""

from collections.abc import Mapping
from typing import Any, SupportsIndex
from urllib.parse import quote

from everspace._calls.call import (
    Call,
    Page,
    address,
    an_address,
    if_still,
    integer,
    no_answer,
    no_value,
    page_of,
    text,
)
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


def space_set_root(
    vid: SupportsIndex,
    name: str,
    addr: SupportsIndex,
    if_match: str | None = None,
    create_only: bool = False,
) -> Call[int]:
    """PUT /vas/{vid}/roots/{name}. ESTALE: it has changed since `if_match`, or is there and was to be created."""
    headers = (*if_still(if_match), *((("If-None-Match", "*"),) if create_only else ()))
    return Call(
        "space_set_root",
        "PUT",
        f"/vas/{integer(vid)}/roots/{_encoded(name)}",
        no_value,
        body={"addr": address(addr)},
        headers=headers,
        answer=no_answer,
        repeatable=not headers,
    )


def space_root_etag(vid: SupportsIndex, name: str) -> Call[str]:
    """GET /vas/{vid}/roots/{name}; the tag of what it is now."""
    path = f"/vas/{integer(vid)}/roots/{_encoded(name)}"
    return Call(
        "space_root_etag",
        "GET",
        path,
        str,
        answer=lambda response: response.headers["etag"],
        repeatable=True,
    )


def space_get_root(vid: SupportsIndex, name: str) -> Call[int]:
    """GET /vas/{vid}/roots/{name}; the address."""
    path = f"/vas/{integer(vid)}/roots/{_encoded(name)}"
    return Call("space_get_root", "GET", path, an_address, repeatable=True)


def vas_delete_root(vid: SupportsIndex, name: str, if_match: str | None = None) -> Call[int]:
    """DELETE /vas/{vid}/roots/{name}. With `if_match`, ESTALE if it has changed since."""
    vid, headers = integer(vid), if_still(if_match)
    path = f"/vas/{vid}/roots/{_encoded(name)}"
    args = {"vid": vid, "name": name}
    return Call("vas_delete_root", "DELETE", path, no_value, args, headers=headers, answer=no_answer)


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
