"""GUPS over more memory than fits into one window: random updates, by switching between spaces or by remapping.

A table is cut into parts that all lie at the same addresses, one in each space. Each step updates some random words of
one part. By switching, a task has attached all spaces once and goes from one into the next. By remapping, it has one
window: it leaves, detaches one part, attaches the next, and comes back. Both make the same updates of the same words,
and the tables are equal at the end; what differs is how much has to be asked for.
"""

import random
import sys
import time
from array import array
from dataclasses import dataclass

import everspace
from everspace import O_RDWR
from examples.service import Service, own_service

START = 0x2000_0000_0000
WORDS = 1 << 12
WORD_BYTES = 8
PART_BYTES = WORDS * WORD_BYTES
PARTS = (1, 4, 16)
STEPS = 120
UPDATES = 4  # words of one part in each step


@dataclass(frozen=True)
class Outcome:
    """One way over so many parts: requests, seconds, and the words of all parts at the end."""

    parts: int
    way: str
    requests: int
    seconds: float
    table: list[bytes]

    @property
    def updates_per_second(self) -> float:
        """Updates of words."""
        return STEPS * UPDATES / self.seconds


def make_parts(task: everspace.Task, name: str, count: int) -> tuple[list[int], list[int]]:
    """Spaces with one segment each, all at START."""
    spaces, segments = [], []
    for number in range(count):
        vid = task.vas_create(f"{name}/{number}", 0o600)
        sid = task.vas_seg_create(f"{name}/{number}", START, START + PART_BYTES, 0o600)
        task.vas_seg_attach(vid, sid, O_RDWR)
        spaces.append(vid)
        segments.append(sid)
    return spaces, segments


def update(task: everspace.Task, words: list[int]) -> None:
    """XOR random words of the part that is in the window with their own numbers: one request to load, one to store."""
    with task.batch() as batch:
        loads = [batch.read(START + WORD_BYTES * word, WORD_BYTES) for word in words]
    values = [array("Q", load.result())[0] for load in loads]
    with task.batch() as batch:
        for word, value in zip(words, values, strict=True):
            batch.write(
                START + WORD_BYTES * word, array("Q", [value ^ (word + 1)]).tobytes(), durability="relaxed"
            )


def by_switching(task: everspace.Task, spaces: list[int], steps: list[tuple[int, list[int]]]) -> int:
    """Attach all, then one switch for each step into another part; the number of requests beside the updates."""
    requests, held = len(spaces), -1
    for vid in spaces:
        task.vas_attach(0, vid, O_RDWR)
    for part, words in steps:
        if part != held:
            task.vas_switch(spaces[part])
            requests += 1
            held = part
        update(task, words)
    return requests


def by_remapping(task: everspace.Task, spaces: list[int], steps: list[tuple[int, list[int]]]) -> int:
    """Have one space attached at a time: out, detach, attach, in."""
    requests, held = 0, -1
    for part, words in steps:
        if part != held:
            if held >= 0:
                task.vas_switch(0)
                task.vas_detach(0, spaces[held])
                requests += 2
            task.vas_attach(0, spaces[part], O_RDWR)
            task.vas_switch(spaces[part])
            requests += 2
            held = part
        update(task, words)
    return requests


def play(service: Service, parts: tuple[int, ...] = PARTS) -> list[Outcome]:
    """Each number of parts in both ways, with the same random numbers."""
    outcomes = []
    with everspace.connect(service.url, service.token) as client:
        for count in parts:
            chance = random.Random(count)
            steps = [(chance.randrange(count), chance.sample(range(WORDS), UPDATES)) for _ in range(STEPS)]
            for way, update_all in (("switching", by_switching), ("remapping", by_remapping)):
                with client.spawn(name=f"gups {way}") as task:
                    spaces, segments = make_parts(task, f"gups/{count}/{way}", count)
                    begin = time.perf_counter()
                    requests = update_all(task, spaces, steps)
                    seconds = time.perf_counter() - begin
                table = [client.segments.get(sid).pread(0, PART_BYTES) for sid in segments]
                outcomes.append(Outcome(count, way, requests, seconds, table))
    return outcomes


def main() -> None:
    """Tell how it went, over so many parts (arguments)."""
    parts = tuple(int(argument) for argument in sys.argv[1:]) or PARTS
    with own_service() as service:
        outcomes = play(service, parts)
    for outcome in outcomes:
        print(
            f"{outcome.parts:3} parts by {outcome.way}: {outcome.requests:4} requests beside the updates,"
            f" {outcome.updates_per_second:7.0f} updates/s"
        )
    equal = all(a.table == b.table for a, b in zip(outcomes[::2], outcomes[1::2], strict=True))
    print("both ways leave the same table" if equal else "the tables differ")


if __name__ == "__main__":
    main()
