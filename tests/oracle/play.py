"""How a sequence is run, the same for the kernel and for the engine: what is done and what is written down.

A record is (what, answer, map): one for each call, with the map after it, and one for the end of each process, with
all its memory.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tests.oracle.calls import PAGE, WINDOW, WINDOW_SIZE, address_text

Answer = int | str | bytes | list[Any]
"""A number, the name of an errno, bytes, or a composition."""
Region = tuple[int, int, str]
"""Start, end, and rights with s or p, as in /proc/PID/maps."""
Record = tuple[str, Answer, list[Region]]
Step = tuple[str, tuple[int, ...]]
Rest = Callable[["World"], tuple[list[Record], int]]

PROT_READ = 1
MREMAP_TO = 3
"""MREMAP_MAYMOVE | MREMAP_FIXED."""
MAP_FIXED_BITS = 0x100010

SMAPS_AMOUNTS = ("Rss", "Anonymous", "Locked", "Swap")
"""LazyFree is left out: Linux counts such pages when a processor's batch of them is full."""


class World(Protocol):
    """One process: the kernel's or the engine's."""

    def call(self, name: str, args: tuple[int, ...]) -> Answer:
        """Make a call of the mmap family: its value, or the name of its errno."""

    def load(self, addr: int, length: int) -> bytes | str:
        """Bytes, or EFAULT."""

    def store(self, addr: int, data: bytes) -> int | str:
        """How many bytes, or EFAULT."""

    def maps(self) -> list[Region]:
        """The regions in the window."""

    def smaps(self) -> str:
        """The text of /proc/PID/smaps, or nothing where it is too long."""

    def bounds(self) -> tuple[int, int]:
        """The window: regions outside are nobody's business."""

    def fork(self, rest: Rest) -> tuple[list[Record], int]:
        """Let a child go on with `rest`, and wait until it has ended: what it returned."""

    def moat(self, *, up: bool) -> None:
        """While up, what is placed anywhere touches no region of the same kind."""


def play(world: World, steps: Sequence[Step], position: int = 0, depth: int = 0) -> tuple[list[Record], int]:
    """Run steps from `position`: the records, and where the caller goes on."""
    records: list[Record] = []
    while position < len(steps):
        name, args = steps[position]
        position += 1
        if name == "fork":
            records.append((name, 0, world.maps()))

            def rest(child: World, start: int = position) -> tuple[list[Record], int]:
                return play(child, steps, start, depth + 1)

            inner, position = world.fork(rest)
            records += inner
            records.append(("after the child", look(world), world.maps()))
        elif name == "exit" and depth:
            break
        else:
            records.append((name, answer(world, name, args), world.maps()))
    records += end(world)
    return records, position


def answer(world: World, name: str, args: tuple[int, ...]) -> Answer:
    """Make one call."""
    match name:
        case "load":
            return world.load(args[0], args[1])
        case "store":
            return world.store(args[0], pattern(args[2], args[1]))
        case "look":
            return look(world)
        case "exit":
            return 0
        case "mmap" if not args[3] & MAP_FIXED_BITS:
            return placed(world, name, args, args[1])
        case "mremap" if args[3] & MREMAP_TO == 1:
            return placed(world, name, args, args[2])
        case "mmap" | "mremap":
            return world.call(name, args[:-1])
        case _:
            return world.call(name, args)


def placed(world: World, name: str, args: tuple[int, ...], size: int) -> Answer:
    """A call that lets the system choose: what is then outside the window is moved home."""
    world.moat(up=True)
    value = world.call(name, args[:-1])
    size = -(-size // PAGE) * PAGE
    if isinstance(value, int) and not WINDOW <= value < WINDOW + WINDOW_SIZE:
        home = world.call("mremap", (value, size, size, MREMAP_TO, args[-1]))
        if isinstance(home, str):
            world.call("munmap", (value, size))
        value = ["elsewhere", home]
    world.moat(up=False)
    return value


def pattern(tag: int, length: int) -> bytes:
    """Bytes that tell which store they come from."""
    unit = (tag % 0xFFFF + 1).to_bytes(2, "big")
    return (unit * (length // 2 + 1))[:length]


def look(world: World) -> Answer:
    """All bytes that can be read."""
    return [
        page for start, end, rights in world.maps() if rights[0] == "r" for page in pages(world, start, end)
    ]


def pages(world: World, start: int, end: int) -> list[list[Any]]:
    """The pages of a region that are not all zeros, without trailing zeros, or why a page cannot be read."""
    data = world.load(start, end - start)
    if isinstance(data, str):
        if end - start == PAGE:
            return [[start, data]]
        return [page for at in range(start, end, PAGE) for page in pages(world, at, at + PAGE)]
    if data == bytes(len(data)):
        return []
    cut = [(start + at, data[at : at + PAGE].rstrip(b"\0")) for at in range(0, len(data), PAGE)]
    return [[address, page] for address, page in cut if page]


def seen_in_smaps(text: str, low: int, high: int) -> list[Any]:
    """What smaps tells of the regions in [low, high): flags, and of private ones the amounts that are not 0."""
    told: list[Any] = []
    region: list[str] = []
    inside = False
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if " " in name:
            start = int(name.partition("-")[0], 16)
            inside = low <= start < high
            region = [address_text(start)]
        elif inside and name in SMAPS_AMOUNTS and value.strip() != "0 kB":
            region.append(f"{name} {value.strip()}")
        elif inside and name == "VmFlags":
            flags = value.split()
            told.append(" ".join([*(region[:1] if "sh" in flags else region), *flags]))
    return told


def end(world: World) -> list[Record]:
    """All that can be known of a process: residency, bytes, and bytes that its rights hid."""
    smaps: Answer = seen_in_smaps(world.smaps(), *world.bounds())
    regions = world.maps()
    resident: Answer = [world.call("mincore", (start, end - start)) for start, end, _ in regions]
    records: list[Record] = [
        ("end: smaps", smaps, regions),
        ("end: mincore", resident, regions),
        ("end: bytes", look(world), regions),
    ]
    revealed: list[Any] = [
        world.call("mprotect", (start, end - start, PROT_READ))
        for start, end, rights in regions
        if rights[0] != "r"
    ]
    records.append(("end: hidden bytes", [*revealed, look(world)], world.maps()))
    return records
