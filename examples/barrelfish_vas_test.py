"""The story of Barrelfish's vas_test: programs make spaces, meet at a barrier, and read in each other's.

Each program makes the space /vas/test/ID and maps a small and a large frame in it. After the barrier it attaches the
spaces of all others, writes its number into its own, and after another barrier reads every space at the same address: it
finds the number of the owner. Then four segments with the read flag come into a space; a store into one faults.

One step is different. Barrelfish's program maps a frame of its own at the address of its space's, switches, and finds
either value where it belongs. Here one address has one owner: the second mapping is refused, and names both.
"""

import errno
import threading
from dataclasses import dataclass, field

import everspace
from everspace import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, O_RDONLY, O_RDWR, PROT_READ, PROT_WRITE
from examples.service import Service, own_service

PROGRAMS = 4
SMALL, LARGE = 0x2000_0000_0000, 0x2000_4000_0000
SMALL_BYTES, LARGE_BYTES = 4 << 10, 2 << 20
SEGMENTS = 0x3000_0000_0000
SEGMENT_BYTES, SEGMENT_STEP = 2 << 20, 4 << 20
RW = PROT_READ | PROT_WRITE
FIXED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED


@dataclass
class Report:
    """What one program saw: a number at one address in each space, in order; and how its last stores were refused."""

    number: int
    seen: list[int] = field(default_factory=list)
    collision: str = ""
    store: str = ""
    outside: str = ""


def errno_of(error: everspace.VasError) -> str:
    """The name of its errno."""
    return errno.errorcode[error.errno or 0]


def program(service: Service, number: int, meet: threading.Barrier, report: Report) -> None:
    """One of the programs, with a client and a task of its own."""
    with (
        everspace.connect(service.url, service.token) as client,
        client.spawn(name=f"vas_test {number}") as task,
    ):
        mine = task.vas_create(f"/vas/test/{number}", 0o600, "shared")
        task.vas_mmap(mine, SMALL, SMALL_BYTES, RW, FIXED)
        task.vas_mmap(mine, LARGE, LARGE_BYTES, RW, FIXED)
        meet.wait()
        spaces = [task.vas_find(f"/vas/test/{other}") for other in range(PROGRAMS)]
        for space in spaces:
            task.vas_attach(0, space, O_RDWR)
        report.collision = refused_mapping(task)
        task.vas_switch(mine)
        for place in (SMALL, LARGE + LARGE_BYTES - 8):
            task.write(place, number.to_bytes(8, "little"))
        meet.wait()
        for space in spaces:
            task.vas_switch(space)
            report.seen.append(int.from_bytes(task.read(SMALL, 8), "little"))
        task.vas_switch(0)
        if number == 0:
            read_only_segments(task, report)
        meet.wait()


def refused_mapping(task: everspace.Task) -> str:
    """Map something of the task's own where its spaces have something; how that is refused."""
    try:
        task.mmap(SMALL, SMALL_BYTES, RW, FIXED)
    except everspace.VasError as error:
        return errno_of(error)
    return "not refused"


def read_only_segments(task: everspace.Task, report: Report) -> None:
    """Four segments in a space, each to be read only; then stores, inside and outside."""
    space = task.vas_create("/vas/test/segments", 0o600)
    for number in range(4):
        start = SEGMENTS + SEGMENT_STEP * number
        segment = task.vas_seg_create(f"/seg/test/{number}", start, start + SEGMENT_BYTES, 0o600)
        task.vas_seg_attach(space, segment, O_RDONLY)
    task.vas_attach(0, space, O_RDWR)
    task.vas_switch(space)
    for number in range(4):
        task.read(SEGMENTS + SEGMENT_STEP * number, 8)
    report.store = refused_store(task)
    task.vas_switch(0)
    report.outside = refused_store(task)


def refused_store(task: everspace.Task) -> str:
    """How a store into the first segment is refused."""
    try:
        task.write(SEGMENTS, b"x")
    except everspace.VasError as error:
        return errno_of(error)
    return "not refused"


def play(service: Service) -> list[Report]:
    """Run all programs at once."""
    meet = threading.Barrier(PROGRAMS, timeout=60)
    reports = [Report(number) for number in range(PROGRAMS)]
    programs = [
        threading.Thread(target=program, args=(service, report.number, meet, report)) for report in reports
    ]
    for each in programs:
        each.start()
    for each in programs:
        each.join()
    return reports


def main() -> None:
    """Tell how it went."""
    with own_service() as service:
        reports = play(service)
    for report in reports:
        print(f"program {report.number} reads {report.seen} at {SMALL:#x} of the spaces 0 to {PROGRAMS - 1}")
    print(f"a frame of its own at the same address: {reports[0].collision}")
    print(f"a store into a segment to be read: {reports[0].store} inside, {reports[0].outside} outside")


if __name__ == "__main__":
    main()
