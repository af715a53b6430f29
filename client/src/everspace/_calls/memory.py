"""The calls on a task's memory, as the calling thread's active space shows it."""

import binascii
from typing import Any, SupportsIndex

from everspace._calls.call import (
    Buffer,
    Call,
    a_durability,
    address,
    an_address,
    integer,
    no_answer,
    no_value,
    readable,
    writable,
)
from everspace._calls.segments import fill
from everspace.constants import MS_SYNC
from everspace.transport import Response
from everspace.wire import MEDIA_BYTES


def read(addr: SupportsIndex, length: SupportsIndex) -> Call[bytes]:
    """GET /tasks/{pid}/memory."""
    where, length = address(addr), integer(length)
    return Call(
        "read",
        "GET",
        "/tasks/{pid}/memory",
        from_base64,
        {"addr": where, "length": length},
        query=f"addr={where}&len={length}",
        answer=lambda response: response.body,
        repeatable=True,
        tid_in="query",
    )


def readinto(addr: SupportsIndex, buffer: Buffer) -> Call[int]:
    """GET /tasks/{pid}/memory, straight into the caller's buffer, which is filled; its length."""
    where, into = address(addr), writable(buffer)

    def answer(response: Response) -> int:
        return fill(into, response)

    return Call(
        "readinto",
        "GET",
        "/tasks/{pid}/memory",
        integer,
        query=f"addr={where}&len={len(into)}",
        into=into,
        answer=answer,
        repeatable=True,
        tid_in="query",
    )


def write(addr: SupportsIndex, data: Buffer, durability: str = "commit") -> Call[int]:
    """PUT /tasks/{pid}/memory; the number of bytes."""
    where, view, how = address(addr), readable(data), a_durability(durability)
    args = {"addr": where} if how == "commit" else {"addr": where, "durability": how}
    return Call(
        "write",
        "PUT",
        "/tasks/{pid}/memory",
        integer,
        args,
        query=f"addr={where}" if how == "commit" else f"addr={where}&durability={how}",
        headers=(("Content-Type", MEDIA_BYTES),),
        payload=view,
        answer=lambda _: len(view),
        repeatable=True,
        tid_in="query",
    )


def mmap(addr: SupportsIndex, length: SupportsIndex, prot: int, flags: int) -> Call[int]:
    """POST /tasks/{pid}/mmap; the address."""
    args = {
        "addr": address(addr),
        "length": integer(length),
        "prot": integer(prot),
        "flags": integer(flags),
    }
    return Call("mmap", "POST", "/tasks/{pid}/mmap", an_address, args, args, keyed=True, tid_in="body")


def munmap(addr: SupportsIndex, length: SupportsIndex) -> Call[int]:
    """POST /tasks/{pid}/munmap."""
    return _plain("munmap", {"addr": address(addr), "length": integer(length)})


def mprotect(addr: SupportsIndex, length: SupportsIndex, prot: int) -> Call[int]:
    """POST /tasks/{pid}/mprotect."""
    return _plain("mprotect", {"addr": address(addr), "length": integer(length), "prot": integer(prot)})


def mremap(
    old_addr: SupportsIndex,
    old_size: SupportsIndex,
    new_size: SupportsIndex,
    flags: int = 0,
    new_addr: SupportsIndex = 0,
) -> Call[int]:
    """POST /tasks/{pid}/mremap; the address."""
    args = {
        "old_addr": address(old_addr),
        "old_size": integer(old_size),
        "new_size": integer(new_size),
        "flags": integer(flags),
        "new_addr": address(new_addr),
    }
    return Call("mremap", "POST", "/tasks/{pid}/mremap", an_address, args, args, keyed=True, tid_in="body")


def madvise(addr: SupportsIndex, length: SupportsIndex, advice: int) -> Call[int]:
    """POST /tasks/{pid}/madvise."""
    return _plain("madvise", {"addr": address(addr), "length": integer(length), "advice": integer(advice)})


def mincore(addr: SupportsIndex, length: SupportsIndex) -> Call[bytes]:
    """POST /tasks/{pid}/mincore; a byte for each page."""
    args = {"addr": address(addr), "length": integer(length)}
    path = "/tasks/{pid}/mincore"
    return Call("mincore", "POST", path, residency, args, args, repeatable=True, tid_in="body")


def mlock(addr: SupportsIndex, length: SupportsIndex, flags: int = 0) -> Call[int]:
    """POST /tasks/{pid}/mlock."""
    return _plain("mlock", {"addr": address(addr), "length": integer(length), "flags": integer(flags)})


def munlock(addr: SupportsIndex, length: SupportsIndex) -> Call[int]:
    """POST /tasks/{pid}/munlock."""
    return _plain("munlock", {"addr": address(addr), "length": integer(length)})


def msync(addr: SupportsIndex = 0, length: SupportsIndex = 0, flags: int = MS_SYNC) -> Call[int]:
    """POST /tasks/{pid}/msync."""
    return _plain("msync", {"addr": address(addr), "length": integer(length), "flags": integer(flags)})


def brk(addr: SupportsIndex = 0) -> Call[int]:
    """POST /tasks/{pid}/brk; the break as it is now."""
    args = {"addr": address(addr)}
    return Call("brk", "POST", "/tasks/{pid}/brk", an_address, args, args, repeatable=True, tid_in="body")


def maps() -> Call[str]:
    """GET /proc/{pid}/maps."""
    return _file("maps")


def smaps() -> Call[str]:
    """GET /proc/{pid}/smaps."""
    return _file("smaps")


def _file(name: str) -> Call[str]:
    def answer(response: Response) -> str:
        return response.body.decode()

    return Call(name, "GET", f"/proc/{{pid}}/{name}", str, answer=answer, repeatable=True, tid_in="query")


def from_base64(value: Any) -> bytes:
    """Bytes out of a batch's result."""
    return binascii.a2b_base64(value, strict_mode=True)


def residency(value: Any) -> bytes:
    """What mincore tells: itself, or the object {"value"}."""
    return from_base64(value["value"] if isinstance(value, dict) else value)


def to_base64(data: bytes | memoryview) -> str:
    """Bytes for a batch's args."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _plain(name: str, args: dict[str, Any]) -> Call[int]:
    """A call without a result that may be repeated: after it, the range is as it asked."""
    path = f"/tasks/{{pid}}/{name}"
    return Call(name, "POST", path, no_value, args, args, answer=no_answer, repeatable=True, tid_in="body")
