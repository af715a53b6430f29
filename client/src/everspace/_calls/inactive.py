"""The calls that map into a space from outside (as_mmap and its like)."""

from typing import Any, SupportsIndex

from everspace._calls.call import Call, address, an_address, integer, no_answer, no_value


def vas_mmap(
    vid: SupportsIndex, addr: SupportsIndex, length: SupportsIndex, prot: int, flags: int
) -> Call[int]:
    """POST /vas/{vid}/mmap; the address."""
    vid = integer(vid)
    body = {"addr": address(addr), "length": integer(length), "prot": integer(prot), "flags": integer(flags)}
    args = {"vid": vid, **body}
    return Call("vas_mmap", "POST", f"/vas/{vid}/mmap", an_address, args, body, keyed=True)


def vas_munmap(vid: SupportsIndex, addr: SupportsIndex, length: SupportsIndex) -> Call[int]:
    """POST /vas/{vid}/munmap."""
    return _of_space("munmap", vid, {"addr": address(addr), "length": integer(length)})


def vas_mprotect(vid: SupportsIndex, addr: SupportsIndex, length: SupportsIndex, prot: int) -> Call[int]:
    """POST /vas/{vid}/mprotect."""
    body = {"addr": address(addr), "length": integer(length), "prot": integer(prot)}
    return _of_space("mprotect", vid, body)


def _of_space(name: str, vid: SupportsIndex, body: dict[str, Any]) -> Call[int]:
    """Repeatable: after it, the range is as it asked."""
    vid = integer(vid)
    args = {"vid": vid, **body}
    path = f"/vas/{vid}/{name}"
    return Call(f"vas_{name}", "POST", path, no_value, args, body, answer=no_answer, repeatable=True)
