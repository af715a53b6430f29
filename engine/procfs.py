"""smaps and status of procfs, in the words, columns and units of Linux 6."""

from collections.abc import Callable, Iterable
from typing import Final

from engine import vm_flags
from engine.access import Access, attach_limit
from engine.address_space import AddressSpace, is_data
from engine.geometry import Geometry
from engine.huge import may_be_huge, whole_leaves
from engine.paged_memory import PagedMemory
from engine.render import Label, header
from engine.tasks import Task
from engine.union import Union
from engine.usage import OwnedRegions, Usage, usage
from engine.vma import Vma

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
)
"""In the order of Linux's bits; the last is ours."""
_NEVER: Final = ("FilePmdMapped", "Shared_Hugetlb", "Private_Hugetlb")


def smaps(union: Union, label: Label, volatile: Volatile) -> str:
    """/proc/PID/smaps of what a thread sees; see usage.py for what the numbers count."""
    regions = union.owned_in(0, 1 << 64)
    counted = usage(union, regions, volatile)
    texts = []
    for number, (owner, vma) in enumerate(regions):
        access = Access(union.rights(vma, owner))
        rows = {name: f"{size >> 10:8} kB" for name, size in _sizes(union.own.geometry, vma, counted, number)}
        rows["THPeligible"] = f"{_fits_huge_page(owner, vma):8}"
        texts.append(header(union, vma, access, label))
        texts.extend(f"{name + ':':16}{value}\n" for name, value in rows.items())
        limit = attach_limit(vma.type) & (union.limit if owner is union.space else Access.ALL)
        texts.append(f"VmFlags: {_flags(vma, access, may_write=bool(limit & Access.WRITE))}\n")
    return "".join(texts)


def status(task: Task, volatile: Volatile) -> str:
    """/proc/PID/status: the lines that are true here, in Linux's order, then the engine's own counters.

    The sizes are those of the original address space, whatever the threads are in.
    """
    told = task.status()
    regions = task.original.owned_in(0, 1 << 64)
    counted = usage(task.original, regions, volatile)
    resident, anonymous = int(counted.rss.sum()), int(counted.anonymous.sum())
    stack = sum(vma.end - vma.start for _, vma in regions if vma.grows_down)
    data = sum(vma.end - vma.start for _, vma in regions if is_data(vma))
    text, library = _code(task.space.geometry, regions)
    sizes = {
        "VmSize": task.space.mapped(),
        "VmLck": task.space.locked(),
        "VmRSS": resident,
        "RssAnon": anonymous,
        "RssFile": 0,
        "RssShmem": resident - anonymous,
        "VmData": data,
        "VmStk": stack,
        "VmExe": text,
        "VmLib": library,
        "VmSwap": int(counted.swap.sum()),
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


def _sizes(geometry: Geometry, vma: Vma, counted: Usage, number: int) -> Iterable[tuple[str, int]]:
    """Every line in kB, in Linux's order."""
    private = counted.anonymous[number] or not vma.shared
    huge = int(counted.anon_huge[number])
    pss = int(counted.pss[number])
    yield "Size", vma.end - vma.start
    yield "KernelPageSize", geometry.page_size
    yield "MMUPageSize", geometry.page_size
    yield "Rss", int(counted.rss[number])
    yield "Pss", pss
    yield "Pss_Dirty", int(counted.pss_dirty[number])
    yield "Shared_Clean", int(counted.shared_clean[number])
    yield "Shared_Dirty", int(counted.shared_dirty[number])
    yield "Private_Clean", int(counted.private_clean[number])
    yield "Private_Dirty", int(counted.private_dirty[number])
    yield "Referenced", int(counted.referenced[number])
    yield "Anonymous", int(counted.anonymous[number])
    yield "KSM", 0
    yield "LazyFree", int(counted.lazy_free[number])
    yield "AnonHugePages", huge if private else 0
    yield "ShmemPmdMapped", 0 if private else huge
    for name in _NEVER:
        yield name, 0
    yield "Swap", int(counted.swap[number])
    yield "SwapPss", int(counted.swap_pss[number])
    yield "Locked", pss if vma.flags & vm_flags.LOCKED else 0


def _flags(vma: Vma, access: Access, *, may_write: bool) -> str:
    """Two letters for each flag, each followed by a blank. What is shared read-only is not `sh`, as on Linux."""
    words = [
        word for bit, word in ((Access.READ, "rd"), (Access.WRITE, "wr"), (Access.EXEC, "ex")) if access & bit
    ]
    if vma.shared and may_write:
        words.append("sh")
    words += ["mr", "mw", "me"] if may_write else ["mr", "me"]
    if vma.shared:
        words.append("ms")
    words += [word for bit, word in _FLAGS if vma.flags & bit]
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
