"""A program of its own: shares a linked list with whoever else has the segment, by absolute addresses.

    python -m tests.e2e.linked_list URL TOKEN SPACE append NUMBER…
    python -m tests.e2e.linked_list URL TOKEN SPACE walk

Head of the list at the segment's start: u64 address of the first node, u64 address of free memory. A node is
u64 address of the next node, u64 number.
"""

import struct
import sys

import everspace

BASE = 0x2000_0000_0000
PAIR = struct.Struct("<QQ")


def append(task: everspace.Task, number: int) -> None:
    """Put a node at the end: follow the pointers to it, then store the node, then its address."""
    _, free = PAIR.unpack(task.read(BASE, PAIR.size))
    free = free or BASE + PAIR.size
    place = BASE
    while following := PAIR.unpack(task.read(place, PAIR.size))[0]:
        place = following
    with task.batch(atomic=True) as batch:
        batch.write(free, PAIR.pack(0, number))
        batch.write(place, struct.pack("<Q", free))
        batch.write(BASE + 8, struct.pack("<Q", free + PAIR.size))


def walk(task: everspace.Task) -> list[int]:
    """The numbers, in order."""
    numbers = []
    place, _ = PAIR.unpack(task.read(BASE, PAIR.size))
    while place:
        place, number = PAIR.unpack(task.read(place, PAIR.size))
        numbers.append(number)
    return numbers


def main(url: str, token: str, space: str, verb: str, *numbers: str) -> None:
    with everspace.connect(url, token) as client, client.spawn(name=verb) as task:
        vid = task.vas_find(space)
        task.vas_attach(0, vid, everspace.O_RDWR)
        task.vas_switch(vid)
        for number in numbers:
            append(task, int(number))
        print(*walk(task))


if __name__ == "__main__":
    main(*sys.argv[1:])
