"""The address space that a program starts with (Linux: execve, binfmt_elf)."""

from engine.access import READ_WRITE, Access
from engine.constants import RLIM_INFINITY
from engine.memory.memory_object import MemoryObject
from engine.regions.address_space import AddressSpace, Break
from engine.regions.limits import Limits
from engine.regions.vm_flags import ACCOUNT, GROWS_DOWN
from engine.regions.vma import Vma


def empty_space(pid: int, memory: MemoryObject, limits: Limits) -> AddressSpace:
    """A task's address space without regions. Mappings go above the arena, then below it."""
    geometry = memory.pool.geometry
    low = (geometry.text_start + 4 * geometry.page_size, geometry.arena_start)
    places = ((geometry.arena_end, geometry.mmap_top), low)
    return AddressSpace(geometry, memory, f"task {pid}", places, limits=limits)


def new_program(pid: int, memory: MemoryObject, limits: Limits) -> AddressSpace:
    """Text, data, an empty heap and a stack, as a small Linux program starts with."""
    space = empty_space(pid, memory, limits)
    space.bottom_up = limits.stack == RLIM_INFINITY
    geometry = space.geometry
    page, text = geometry.page_size, geometry.text_start
    stack = geometry.user_end - geometry.stack_size
    parts = (
        (text, text + page, Access(5), 0),
        (text + page, text + 2 * page, READ_WRITE, ACCOUNT),
        (stack, geometry.user_end, READ_WRITE, ACCOUNT | GROWS_DOWN),
    )
    shift = geometry.page_shift
    space.vmas.fill(
        [Vma(start, end, access, memory, start >> shift, flags=flags) for start, end, access, flags in parts]
    )
    heap = text + 3 * page
    space.brk = Break(heap, heap, geometry.arena_start)
    return space
