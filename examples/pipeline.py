"""A pipeline whose stages hand over a structure of pointers by naming a space, where others write and parse a file.

Three programs run one after the other, each a process of its own. The first reads records and links them into a list in
a heap inside the space. The second sorts the list by changing pointers alone: no record moves, none is copied. The
third follows the pointers and adds up. What goes from one to the next is the name of the space and nothing else.
"""

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import everspace
from everspace import O_RDWR
from examples.service import Service, own_service

START, BYTES = 0x2000_0000_0000, 1 << 20
SPACE, HEAD = "pipeline", "head"
RECORD = struct.Struct("<QQ16s")  # next record, position, sequence name
RECORDS = 60


@dataclass(frozen=True)
class Record:
    """A record where it lies."""

    address: int
    next: int
    position: int
    name: bytes


def inputs() -> Iterator[tuple[int, bytes]]:
    """Positions in sequences, in no order: what a sequencer would deliver."""
    return ((number * 7919 % 1000, b"chr%d" % (number % 5)) for number in range(RECORDS))


def walk(task: everspace.Task) -> Iterator[Record]:
    """Follow the pointers from the root."""
    address = task.vas_get_root(HEAD)
    while address:
        following, position, name = RECORD.unpack(task.read(address, RECORD.size))
        yield Record(address, following, position, name.rstrip(b"\0"))
        address = following


def parse(task: everspace.Task) -> str:
    """The first stage: allocate a record for each input and link it in front."""
    head = 0
    for position, name in inputs():
        address = task.vas_malloc(RECORD.size)
        task.write(address, RECORD.pack(head, position, name), durability="relaxed")
        head = address
    task.msync()
    task.vas_set_root(HEAD, head)
    return f"linked {RECORDS} records"


def sort(task: everspace.Task) -> str:
    """The second stage: link them anew, in order; in one batch, so that a crash leaves the old order or the new one."""
    before = list(walk(task))
    ordered = sorted(before, key=lambda record: (record.name, record.position))
    following = [record.address for record in ordered[1:]] + [0]
    with task.batch(atomic=True) as batch:
        for record, address in zip(ordered, following, strict=True):
            batch.write(record.address, address.to_bytes(8, "little"))
        batch.vas_set_root(HEAD, ordered[0].address)
    return f"changed {len(ordered)} pointers, moved 0 records"


def report(task: everspace.Task) -> str:
    """The third stage: one walk."""
    records = list(walk(task))
    names = sorted({record.name for record in records})
    counts = ", ".join(f"{name.decode()} {sum(record.name == name for record in records)}" for name in names)
    keys = [(record.name, record.position) for record in records]
    ordered = keys == sorted(keys)
    return f"{counts}; {'in order' if ordered else 'not in order'}"


STAGES = {"parse": parse, "sort": sort, "report": report}


def stage(name: str) -> None:
    """One stage, in a process of its own: go into the space, work, leave."""
    with everspace.connect() as client, client.spawn(name=name) as task:
        vid = task.vas_find(SPACE)
        task.vas_attach(0, vid, O_RDWR)
        task.vas_switch(vid)
        print(STAGES[name](task))


def play(service: Service) -> dict[str, str]:
    """Make the space, and run each stage as a program; what each said."""
    with everspace.connect(service.url, service.token) as client:
        space = client.spaces.create(SPACE, 0o600)
        client.segments.create(SPACE, START, START + BYTES, 0o600).attach(space)
    environment = os.environ | {"EVERSPACE_URL": service.url, "EVERSPACE_TOKEN": service.token}
    said = {}
    for name in STAGES:
        command = [sys.executable, "-m", "examples.pipeline", name]
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        said[name] = done.stdout.strip()
    return said


def main() -> None:
    """Run one stage (argument), or all of them with a service of their own."""
    if len(sys.argv) > 1:
        stage(sys.argv[1])
        return
    with own_service() as service:
        for name, said in play(service).items():
            print(f"{name}: {said}")


if __name__ == "__main__":
    main()
