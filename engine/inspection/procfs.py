"""smaps and status of procfs, in the words, columns and units of Linux 6."""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Final

import numpy as np

from engine.access import Access, attach_limit
from engine.geometry import Geometry
from engine.inspection.render import Label, header
from engine.inspection.usage import OwnedRegions, Usage, totals, usage
from engine.memory.paged_memory import PagedMemory
from engine.regions import vm_flags
from engine.regions.address_space import AddressSpace
from engine.regions.huge import may_be_huge, whole_leaves
from engine.regions.vma import Vma
from engine.tasks.tasks import Task
from engine.union import Union

Volatile = Callable[[], Iterable[PagedMemory]]
"""All memory that the store does not remember."""

_FLAGS: Final = (
    (vm_flags.GROWS_DOWN, "gd"),
    (vm_flags.LOCKED, "lo"),
    (vm_flags.SEQ_READ, "sr"),
    (vm_flags.RAND_READ, "rr"),
    (vm_flags.DONT_COPY, "dc"),
    (vm_flags.LOCK_ON_FAULT, "lf"),
    (vm_flags.ACCOUNT, "ac"),
    (vm_flags.NORESERVE, "nr"),
    (vm_flags.DONT_DUMP, "dd"),
    (vm_flags.HUGEPAGE, "hg"),
    (vm_flags.NOHUGEPAGE, "nh"),
    (vm_flags.VAS_PRIVATE, "vp"),
    (vm_flags.UNSHARED, "un"),
)
"""In the order of Linux's bits; the last two are ours."""
_NAMES: Final = (
    "Size",
    "KernelPageSize",
    "MMUPageSize",
    "Rss",
    "Pss",
    "Pss_Dirty",
    "Shared_Clean",
    "Shared_Dirty",
    "Private_Clean",
    "Private_Dirty",
    "Referenced",
    "Anonymous",
    "KSM",
    "LazyFree",
    "AnonHugePages",
    "ShmemPmdMapped",
    "FilePmdMapped",
    "Shared_Hugetlb",
    "Private_Hugetlb",
    "Swap",
    "SwapPss",
    "Locked",
)
"""Lines in kB, in Linux's order."""
_BLOCK: Final = "".join(f"{name + ':':16}%8d kB\n" for name in _NAMES) + "THPeligible:    %8d\nVmFlags: %s\n"


def smaps(union: Union, label: Label, volatile: Volatile) -> str:
    """/proc/PID/smaps of what a thread sees; see usage.py for what the numbers count."""
    regions = union.owned_in(0, 1 << 64)
    columns = _columns(regions, union.own.geometry.page_size, usage(union, regions, volatile))
    texts = []
    for (owner, vma), sizes in zip(regions, columns, strict=True):
        access = Access(union.rights(vma, owner))
        limit = attach_limit(vma.type) & (union.limit if owner is union.space else Access.ALL)
        flags = _words(access, vma.flags, vma.shared, bool(limit & Access.WRITE))
        texts.append(header(union, vma, access, label))
        texts.append(_BLOCK % (*sizes, _fits_huge_page(owner, vma), flags))
    return "".join(texts)


def status(task: Task) -> str:
    """/proc/PID/status: the lines that are true here, in Linux's order, then the engine's own counters.

    The sizes are those of the original address space, whatever the threads are in.
    """
    told = task.status()
    regions = task.original.owned_in(0, 1 << 64)
    used = totals(task.original, regions)
    text, library = _code(task.space.geometry, regions)
    sizes = {
        "VmSize": task.space.mapped(),
        "VmLck": task.space.locked(),
        "VmRSS": used.anonymous + used.shared,
        "RssAnon": used.anonymous,
        "RssFile": 0,
        "RssShmem": used.shared,
        "VmData": task.space.data(),
        "VmStk": sum(vma.end - vma.start for _, vma in regions if vma.grows_down),
        "VmExe": text,
        "VmLib": library,
        "VmSwap": used.swapped,
        "HugetlbPages": 0,
    }
    rows = {
        "Name": told.name,
        "State": "S (sleeping)",
        "Tgid": str(told.pid),
        "Pid": str(told.pid),
        "PPid": "0",
        "TracerPid": "0",
        "Uid": "\t".join([str(told.uid)] * 4),
        "Gid": "\t".join([str(told.gids[0])] * 4),
        "Groups": " ".join(str(group) for group in told.gids) + " ",
        "Kthread": "0",
        **{name: f"{size >> 10:8d} kB" for name, size in sizes.items()},
        "THP_enabled": str(int(task.space.geometry.has_huge_pages)),
        "Threads": str(len(told.threads)),
        "VasAttached": " ".join(str(held.vid) for held in told.attachments),
        "VasSwitches": str(told.counters["switches"]),
        "MinorFaults": str(told.counters["minor_faults"]),
        "MajorFaults": str(told.counters["major_faults"]),
        "PageTableEntries": str(told.counters["page_table_entries"]),
    }
    return "".join(f"{key}:\t{value}\n" for key, value in rows.items())


def _columns(regions: OwnedRegions, page_size: int, counted: Usage) -> Iterator[tuple[int, ...]]:
    """For each region the numbers of `_NAMES`, in kB."""
    count = len(regions)
    nothing, page = np.zeros(count, np.int64), np.full(count, page_size)
    shared = np.fromiter((vma.shared for _, vma in regions), np.bool_, count)
    locked = np.fromiter((bool(vma.flags & vm_flags.LOCKED) for _, vma in regions), np.bool_, count)
    columns = {
        "Size": np.fromiter((vma.end - vma.start for _, vma in regions), np.int64, count),
        "KernelPageSize": page,
        "MMUPageSize": page,
        "Rss": counted.rss,
        "Pss": counted.pss,
        "Pss_Dirty": counted.pss_dirty,
        "Shared_Clean": counted.shared_clean,
        "Shared_Dirty": counted.shared_dirty,
        "Private_Clean": counted.private_clean,
        "Private_Dirty": counted.private_dirty,
        "Referenced": counted.referenced,
        "Anonymous": counted.anonymous,
        "LazyFree": counted.lazy_free,
        "AnonHugePages": np.where(shared, 0, counted.anon_huge),
        "ShmemPmdMapped": np.where(shared, counted.anon_huge, 0),
        "Swap": counted.swap,
        "SwapPss": counted.swap_pss,
        "Locked": np.where(locked, counted.pss, 0),
    }
    return zip(*((columns.get(name, nothing) >> 10).tolist() for name in _NAMES), strict=True)


@lru_cache(maxsize=256)
def _words(access: int, flags: int, shared: bool, may_write: bool) -> str:
    """Two letters for each flag, each followed by a blank. What is shared read-only is not `sh`, as on Linux."""
    words = [
        word for bit, word in ((Access.READ, "rd"), (Access.WRITE, "wr"), (Access.EXEC, "ex")) if access & bit
    ]
    if shared and may_write:
        words.append("sh")
    words += ["mr", "mw", "me"] if may_write else ["mr", "me"]
    if shared:
        words.append("ms")
    words += [word for bit, word in _FLAGS if flags & bit]
    return "".join(f"{word} " for word in words)


def _fits_huge_page(owner: AddressSpace, vma: Vma) -> int:
    """1: a huge page may come into being in it, since it was advised and has room for one."""
    pages = (vma.end - vma.start) >> owner.geometry.page_shift
    advised = vma.flags & vm_flags.HUGEPAGE and may_be_huge(owner, vma)
    return int(bool(advised and whole_leaves(vma.offset, pages)))


def _code(geometry: Geometry, regions: OwnedRegions) -> tuple[int, int]:
    """Bytes of the program's text, and of other executable regions (Linux: is_exec_mapping)."""
    executable = sum(
        vma.end - vma.start
        for _, vma in regions
        if vma.access & Access.EXEC and not vma.access & Access.WRITE and not vma.grows_down
    )
    text = min(geometry.page_size, executable)
    return text, executable - text
