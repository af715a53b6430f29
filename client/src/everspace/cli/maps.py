"""everspace maps: what a task sees, as /proc/PID/maps shows it."""

from everspace.cli.shell import Shell
from everspace.cli.task import PidArgument, TidOption


def maps(shell: Shell, pid: PidArgument, tid: TidOption = None) -> None:
    """Print the memory map of a task, as a thread of it sees it now."""
    text = shell.client.task(pid).of_thread(tid).maps()
    if shell.json:
        shell.say("", [_entry(line) for line in text.splitlines()])
    else:
        shell.write(text.removesuffix("\n"))


def _entry(line: str) -> dict[str, str]:
    """One line as an object; the name may hold blanks."""
    where, perms, offset, device, inode, *name = line.split(None, 5)
    start, _, end = where.partition("-")
    return {
        "start": f"0x{start}",
        "end": f"0x{end}",
        "perms": perms,
        "offset": f"0x{offset}",
        "device": device,
        "inode": inode,
        "name": name[0] if name else "",
    }
