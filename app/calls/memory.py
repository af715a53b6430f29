"""The calls on memory, for their routes and for batches alike."""

import binascii
from collections.abc import Mapping
from typing import Final

from app.calls import arguments
from app.calls.call import Call
from engine.machine import Machine
from everspace.wire import hex_address


def base64(data: bytes) -> str:
    """Bytes as JSON has them."""
    return binascii.b2a_base64(data, newline=False).decode("ascii")


MINCORE_PART: Final = 16
"""A page looked up costs as much of the answer's bound as so many bytes read: it takes as long."""


def _pages(m: Machine, args: arguments.Range) -> int:
    """What looking up the pages of a range costs; nothing for one that is longer than any map, since that is refused."""
    geometry = m.geometry
    within = 0 <= args.length <= geometry.user_end
    return MINCORE_PART * (geometry.align_up(args.length) >> geometry.page_shift) if within else 0


MEMORY_CALLS: Final[Mapping[str, Call]] = {
    "mmap": Call(
        arguments.Mmap,
        lambda m, f, a: m.mmap(f.cred, f.pid, f.thread(a), a.addr, a.length, a.prot, a.flags),
        hex_address,
    ),
    "munmap": Call(arguments.Range, lambda m, f, a: m.munmap(f.cred, f.pid, f.thread(a), a.addr, a.length)),
    "mprotect": Call(
        arguments.Mprotect, lambda m, f, a: m.mprotect(f.cred, f.pid, f.thread(a), a.addr, a.length, a.prot)
    ),
    "mremap": Call(
        arguments.Mremap,
        lambda m, f, a: m.mremap(
            f.cred, f.pid, f.thread(a), a.old_addr, a.old_size, a.new_size, a.flags, a.new_addr
        ),
        hex_address,
    ),
    "brk": Call(arguments.Brk, lambda m, f, a: m.brk(f.cred, f.pid, f.thread(a), a.addr), hex_address),
    "madvise": Call(
        arguments.Madvise, lambda m, f, a: m.madvise(f.cred, f.pid, f.thread(a), a.addr, a.length, a.advice)
    ),
    "mincore": Call(
        arguments.Range,
        lambda m, f, a: m.mincore(f.cred, f.pid, f.thread(a), a.addr, a.length),
        base64,
        _pages,
    ),
    "mlock": Call(
        arguments.Mlock, lambda m, f, a: m.mlock(f.cred, f.pid, f.thread(a), a.addr, a.length, a.flags)
    ),
    "munlock": Call(arguments.Range, lambda m, f, a: m.munlock(f.cred, f.pid, f.thread(a), a.addr, a.length)),
    "msync": Call(
        arguments.Msync, lambda m, f, a: m.msync(f.cred, f.pid, f.thread(a), a.addr, a.length, a.flags)
    ),
}
