"""GUPS over many spaces (SpaceJMP's first application): random updates of 8 bytes in tables that do not fit one window.

By switching, each table is a space that stays attached and a visit is one switch. By remapping, a task has room for one
table, and a visit takes the one that is there away and attaches the next.
"""

import random
from collections.abc import Callable, Iterator

from benchmarks.engine import PAGE, new_machine
from benchmarks.pairs import Pair, per_operation
from engine.constants import MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_PRIVATE, O_RDWR, PROT_READ, PROT_WRITE
from engine.credentials import ROOT
from engine.machine import Machine

START = 0x1000_0000_0000
TABLE_PAGES = 64
UPDATES = 16
VISITS = 400
SPACES = (1, 4, 16, 64)
SEED = 11


def tables(machine: Machine, spaces: int) -> list[int]:
    """Spaces with a table each, at the same address, all of it written."""
    flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
    made = []
    for number in range(spaces):
        vid = machine.vas_create(ROOT, f"table {number} of {spaces}", 0o600)
        machine.vas_mmap(ROOT, vid, START, TABLE_PAGES * PAGE, PROT_READ | PROT_WRITE, flags)
        made.append(vid)
        pid = machine.spawn(ROOT, None, 60).pid
        machine.vas_attach(ROOT, pid, vid, O_RDWR)
        machine.vas_switch(ROOT, pid, pid, vid)
        machine.write(ROOT, pid, pid, START, bytes(TABLE_PAGES * PAGE))
        machine.exit(ROOT, pid)
    return made


def updating(machine: Machine, pid: int, chance: random.Random) -> None:
    """One visit: read, change and write words of the table that the thread sees."""
    for _ in range(UPDATES):
        address = START + 8 * chance.randrange(TABLE_PAGES * PAGE // 8)
        word = int.from_bytes(machine.read(ROOT, pid, pid, address, 8), "little")
        machine.write(ROOT, pid, pid, address, (word ^ address).to_bytes(8, "little"))


def visiting(spaces: int, *, remapping: bool) -> Callable[[], float]:
    """Seconds an update."""
    machine = new_machine(spaces * TABLE_PAGES + 1024)
    vids = tables(machine, spaces)
    pid = machine.spawn(ROOT, None, 60).pid
    attached = vids[0]
    for vid in vids[:1] if remapping else vids:
        machine.vas_attach(ROOT, pid, vid, O_RDWR)
    chance = random.Random(SEED)

    def switched() -> None:
        for _ in range(VISITS):
            machine.vas_switch(ROOT, pid, pid, chance.choice(vids))
            updating(machine, pid, chance)

    def remapped() -> None:
        nonlocal attached
        for _ in range(VISITS):
            vid = chance.choice(vids)
            if vid != attached:
                machine.vas_switch(ROOT, pid, pid, 0)
                machine.vas_detach(ROOT, pid, attached)
                machine.vas_attach(ROOT, pid, vid, O_RDWR)
                attached = vid
            machine.vas_switch(ROOT, pid, pid, vid)
            updating(machine, pid, chance)

    return lambda: per_operation(remapped if remapping else switched, VISITS * UPDATES)


def pairs() -> Iterator[Pair]:
    """For each number of spaces."""
    for spaces in SPACES:
        yield Pair(
            f"GUPS, an update, {spaces} spaces, by switching",
            "the same by remapping (detach, attach)",
            visiting(spaces, remapping=False),
            visiting(spaces, remapping=True),
        )
