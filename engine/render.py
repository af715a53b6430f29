"""State as text, in the formats of procfs and sysfs (SEMANTICS 1.12, 1.13); every file ends in a newline."""

from collections.abc import Callable

from engine.credentials import Owner
from engine.tasks import Attachment, Task
from engine.union import Union
from engine.vma import Vma

TYPE_NAMES = ("ro", "wo", "rw")
_PATH_COLUMN = 73

Label = Callable[[Vma], str]
"""What a region shows, for the last column; empty for plain anonymous memory."""


def maps(union: Union, label: Label) -> str:
    """/proc/PID/maps of what a thread sees: start-end perms offset dev inode path."""
    lines = []
    for vma, access in union.regions():
        offset = vma.offset << union.own.geometry.page_shift if vma.shared else 0
        line = f"{vma.start:08x}-{vma.end:08x} {access}{'s' if vma.shared else 'p'} {offset:08x} 00:00 0"
        path = label(vma) or _well_known(union, vma)
        lines.append(f"{line:<{_PATH_COLUMN}}{path}".rstrip() if path else line + " ")
    return "".join(f"{line}\n" for line in lines)


def status(task: Task) -> str:
    """/proc/PID/status: the lines that tools read, and the engine's own counters."""
    told = task.status()
    uid, gid = told.uid, told.gids[0]
    page_kib = task.space.geometry.page_size / 1024
    resident = task.space.memory.pages.resident()
    rows = {
        "Name": told.name,
        "State": "S (sleeping)",
        "Tgid": str(told.pid),
        "Pid": str(told.pid),
        "PPid": "0",
        "Uid": "\t".join([str(uid)] * 4),
        "Gid": "\t".join([str(gid)] * 4),
        "Groups": " ".join(str(group) for group in told.gids) + " ",
        "VmSize": f"{task.space.mapped() // 1024:8d} kB",
        "VmRSS": f"{int(resident * page_kib):8d} kB",
        "VmData": f"{(task.space.brk.now - task.space.brk.start) // 1024:8d} kB",
        "Threads": str(len(told.threads)),
        "VasAttached": " ".join(str(held.vid) for held in told.attachments),
        "MinorFaults": str(told.counters["minor_faults"]),
        "MajorFaults": str(told.counters["major_faults"]),
        "PageTableEntries": str(told.counters["page_table_entries"]),
    }
    return "".join(f"{key}:\t{value}\n" for key, value in rows.items())


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
    if vma.grows_down and vma.end == own.geometry.user_end:
        return "[stack]"
    heap = own.brk
    return "[heap]" if heap.start < vma.end and vma.start < heap.now else ""
