"""State as text, in the formats of procfs and sysfs (SEMANTICS 1.12, 1.13); every file ends in a newline."""

from collections.abc import Callable

from engine.access import Access
from engine.credentials import Owner
from engine.regions.vma import Vma
from engine.tasks.tasks import Attachment
from engine.union import Union

TYPE_NAMES = ("ro", "wo", "rw")

Label = Callable[[Vma], str]
"""What a region shows, for the last column; empty for plain anonymous memory."""


def maps(union: Union, label: Label) -> str:
    """/proc/PID/maps of what a thread sees: start-end perms offset dev inode path."""
    return "".join(header(union, vma, access, label) for vma, access in union.regions())


def header(union: Union, vma: Vma, access: Access, label: Label) -> str:
    """The line of one region; the path stands where Linux puts it, by the size of an address."""
    geometry = union.own.geometry
    offset = vma.offset << geometry.page_shift if vma.shared else 0
    line = f"{vma.start:08x}-{vma.end:08x} {access}{'s' if vma.shared else 'p'} {offset:08x} 00:00 0"
    path = label(vma) or _well_known(union, vma)
    column = 73 if geometry.user_end > 1 << 32 else 49
    return f"{f'{line} ':<{column}}{path}\n" if path else f"{line} \n"


def vas_status(attachment: Attachment) -> str:
    """/proc/PID/vas/VID/status."""
    pid, vid, kind = attachment.task.pid, attachment.vid, TYPE_NAMES[attachment.type]
    return f"pid:  {pid}\nvid:  {vid}\ntype: {kind}\n"


def vas_maps(attachment: Attachment, label: Label) -> str:
    """/proc/PID/vas/VID/maps: start-end perms [v|-:a|-] pgoff path.

    `v`: the region belongs to the task and is seen here by reference; `a`: page-table entries of it exist.
    """
    lines = []
    union = attachment.union
    shift = union.own.geometry.page_shift
    for vma, access in union.regions():
        built = union.table.any_present(vma.start >> shift, (vma.end - vma.start) >> shift)
        owned_by_task = union.own.vmas.find(vma.start) is vma
        flags = f"[{'v' if owned_by_task else '-'}:{'a' if built else '-'}]"
        perms = f"{access}{'s' if vma.shared else 'p'}"
        path = label(vma) or _well_known(union, vma)
        line = f"{vma.start:08x}-{vma.end:08x} {perms} {flags} {vma.offset << shift if vma.sid else 0:08x} {path}"
        lines.append(line.rstrip())
    return "".join(f"{line}\n" for line in lines) or "EMPTY\n"


def attributes(name: str, owner: Owner, file: str) -> str | None:
    """One file below /sys/vas/VID or /sys/vas_segs/SID; None: no such file."""
    match file:
        case "name":
            return f"{name}\n"
        case "mode":
            return f"{f'0{owner.mode:o}':>03}\n"
        case "user":
            return f"{owner.uid}\n"
        case "group":
            return f"{owner.gid}\n"
        case _:
            return None


def _well_known(union: Union, vma: Vma) -> str:
    own = union.own
    if own.vmas.find(vma.start) is not vma:
        return ""
    if vma.end == own.geometry.user_end:
        return "[stack]"
    heap = own.brk
    return "[heap]" if heap.start < vma.end and vma.start < heap.now else ""
