"""The process that a crash test kills: commits numbered transactions and tells on standard output which are durable.

    python crash_child.py DIR SEED COUNT [eager]

Transaction n is a pure function of the seed and n (`transaction`), so that the parent knows what has to be there.
"""

import sys
from pathlib import Path
from random import Random

from engine.changes import (
    Change,
    CloneObject,
    DropObject,
    DropPages,
    DropRegion,
    DropSpace,
    PutPages,
    PutRegion,
    PutSegment,
    PutSpace,
    RegionRecord,
    SegmentRecord,
    SpaceRecord,
)
from engine.geometry import X86_64
from storage import open_store
from storage.housekeeping import Tuning
from storage.writer import Writer

PAGE = X86_64.page_size
PAGES = 400
CLONES = 1 << 40
"""Every third transaction makes a clone of object 1 that lives for nine; now and then object 1 becomes one of them."""
EAGER = Tuning(nodes_max=1, tail_entries=20, obsolete_rows=1, slack_pages=4, step_rows=2, step_chunks=1)


def transaction(seed: int, number: int) -> list[Change]:
    """Transaction `number`, from 1. Each marks itself in page 0 of object 1, and in a space that lives for ten."""
    rng = Random(f"{seed}.{number}")
    vid, mark = number + 1, number.to_bytes(8, "little")
    changes: list[Change] = []
    if number == 1:
        changes.append(PutSegment(SegmentRecord(1, "heap", 0, 1 << 40, 0o600, 0, 0, "shared", 1)))
    changes.append(PutSpace(SpaceRecord(vid, f"space {vid}", 0o600, 0, 0, "exclusive", vid)))
    changes.append(PutRegion(vid, RegionRecord(0, PAGE, 3, False, 0, 2)))
    changes.append(PutPages(vid, (number,), mark * (PAGE // 8)))
    if number > 10:
        changes += [DropRegion(vid - 10, 0), DropSpace(vid - 10)]
    if number % 7 == 0:
        changes.append(DropPages(1, rng.randrange(1, PAGES), rng.randrange(1, 60)))
    if number % 3 == 0:
        changes.append(CloneObject(1, CLONES + number))
        changes.append(PutPages(CLONES + number, (PAGES,), mark * (PAGE // 8)))
    if number > 9 and number % 3 == 0:
        changes.append(DropObject(CLONES + number - 9))
    if number % 11 == 10:
        changes.append(CloneObject(CLONES + number - number % 3, 1))
    pages = [0, *sorted(rng.sample(range(1, PAGES), rng.randint(0, 70)))]
    changes.append(PutPages(1, tuple(pages), mark * (PAGE // 8 * len(pages))))
    return changes


def main() -> None:
    """Commit, acknowledge, go on; a group at a time is under way, as in the service."""
    data_dir, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    store = open_store(data_dir, X86_64, tuning=EAGER if sys.argv[4:] == ["eager"] else Tuning())
    begun = store.fetch(1, [0]).get(0, bytes(8))
    first = int.from_bytes(begun[:8], "little") + 1
    writer = Writer(store)
    for base in range(first, first + count, 4):
        futures = [(n, writer.submit(transaction(seed, n))) for n in range(base, base + 4)]
        for number, future in futures:
            future.result()
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
    writer.close()
    store.close()


if __name__ == "__main__":
    main()
