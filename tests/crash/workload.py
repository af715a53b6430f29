"""What crash tests commit: transaction n is a pure function of the seed and n, so that everybody knows what has to be
there after it.
"""

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
from storage.lmdb.housekeeping import Tuning
from storage.memory import MemoryStore
from storage.store import Store
from storage.upkeep.fsck import check_dir

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


def reached(store: Store) -> int:
    """The last transaction in a store, by the mark in its page."""
    return int.from_bytes(store.fetch(1, [0]).get(0, bytes(8))[:8], "little")


class Expectation:
    """What transactions 1 to n of a seed come to. Goes on from the n that was asked for last, if it can."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.last = 0
        self.model = MemoryStore(X86_64)

    def at(self, last: int) -> MemoryStore:
        """The model after transaction `last`."""
        if last < self.last:
            self.__init__(self.seed)  # type: ignore[misc]
        self.model.commit([transaction(self.seed, number) for number in range(self.last + 1, last + 1)])
        self.last = last
        return self.model

    def difference(self, store: Store, last: int) -> str:
        """Where a store differs from the model after transaction `last`; empty when nowhere.

        Looks at all records, at every object that lives, and at some of those that are gone.
        """
        model = self.at(last)
        if store.load() != model.load():
            return "the records differ"
        numbers = (
            {*range(1, last + 3)}
            if last < 60
            else {1, *range(last - 30, last + 3), *range(7, last, last // 30)}
        )
        for number in sorted(numbers):
            if store.fetch(number, [number - 1]) != model.fetch(number, [number - 1]):
                return f"object {number} differs"
        for object_id in (1, *(CLONES + number for number in sorted(numbers))):
            if store.fetch(object_id, range(PAGES + 1)) != model.fetch(object_id, range(PAGES + 1)):
                return f"object {object_id} differs"
        return ""

    def examine(self, data_dir: Path, least: int, most: int) -> int:
        """The last transaction in a directory that must be sound and hold exactly 1 to n, n between `least` and `most`.

        Raises AssertionError.
        """
        for damage in check_dir(data_dir):
            raise AssertionError(f"seed {self.seed}: fsck of {data_dir}: {damage}")
        store = open_store(data_dir, X86_64)
        try:
            last = reached(store)
            assert least <= last <= most, (
                f"seed {self.seed}: {last} is the last transaction, not {least} to {most}"
            )
            assert self.difference(store, last) == "", f"seed {self.seed}, transaction {last}"
        finally:
            store.close()
        return last
