"""What a durable commit of scattered pages costs beside the floor: the same bytes appended to a file and synced.

`python -m benchmarks.store_commit` prints the commits and the file's size for 256 MiB of random pages.
"""

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.pairs import Pair, compare, per_operation
from engine.changes import PutPages, PutSegment, SegmentRecord
from engine.geometry import X86_64
from storage import open_store
from storage.directory import STORE_FILE
from storage.lmdb.store import LmdbStore

PAGE = X86_64.page_size
STORED_PAGES = 65_536
"""256 MiB, all of them there before the first measured commit."""
COUNTS = (1, 8, 100, 1000)
SEED = 7
ROUNDS = 41


class Source:
    """Scattered page numbers and random bytes, made outside the measured time."""

    def __init__(self, count: int) -> None:
        self._chance = random.Random(SEED)
        self._count = count
        self._bytes = [os.urandom(PAGE * count) for _ in range(4)]

    def __call__(self) -> PutPages:
        """The next commit's pages."""
        pages = sorted(self._chance.sample(range(STORED_PAGES), self._count))
        return PutPages(1, tuple(pages), self._chance.choice(self._bytes))


def fill(store: LmdbStore) -> None:
    """Put all pages once, in order."""
    size = STORED_PAGES * PAGE
    store.commit([[PutSegment(SegmentRecord(1, "bench", 0, size, 0o600, 0, 0, "shared", 1))]])
    for base in range(0, STORED_PAGES, 1024):
        store.commit([[PutPages(1, tuple(range(base, base + 1024)), os.urandom(PAGE * 1024))]])
        tidy(store)


def tidy(store: LmdbStore) -> None:
    """Do what an idle service would."""
    while store.maintain():
        pass


def commit(store: LmdbStore, count: int, *, housekeeping: bool) -> Callable[[], float]:
    """Seconds for one commit of `count` pages, with or without the housekeeping that it leads to."""
    source = Source(count)

    def measure() -> float:
        put = source()
        seconds = per_operation(lambda: store.commit([[put]]), 1)
        tidying = per_operation(lambda: tidy(store), 1)
        return seconds + tidying if housekeeping else seconds

    return measure


def append(path: Path, count: int) -> Callable[[], float]:
    """Seconds to append `count` pages with their numbers to a file and fdatasync it."""
    source = Source(count)
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def work(record: bytes) -> None:
        os.write(file, record)
        os.fdatasync(file)

    def measure() -> float:
        put = source()
        record = b"".join(page.to_bytes(8, "little") for page in put.pages) + put.data
        return per_operation(lambda: work(record), 1)

    return measure


@contextmanager
def pairs(folder: Path) -> Iterator[list[Pair]]:
    """The store in `folder` against log files beside it."""
    store = open_store(folder / "commits", X86_64)
    try:
        fill(store)
        yield [
            Pair(
                f"commit of {count} scattered pages{', tidied' * housekeeping}",
                "log append + fdatasync",
                commit(store, count, housekeeping=housekeeping),
                append(folder / f"log {count} {housekeeping}", count),
                "ms",
            )
            for housekeeping in (False, True)
            for count in COUNTS
        ]
    finally:
        store.close()


def stored_ratio(folder: Path) -> float:
    """Bytes of the file over bytes of the pages."""
    store = open_store(folder / "stored", X86_64)
    fill(store)
    store.close()
    return (folder / "stored" / STORE_FILE).stat().st_size / (STORED_PAGES * PAGE)


def main() -> None:
    """Measure and print. `floor / ours` is 1 when the store is as fast as the file."""
    with tempfile.TemporaryDirectory(prefix="everspace-bench-") as name:
        folder = Path(name)
        print(f"{ROUNDS} rounds in turns; medians in ms; ratio = ours / floor, median (min..max)")
        with pairs(folder) as measured:
            for pair in measured:
                result = compare(pair, ROUNDS)
                spread = f"({1 / result.ratio_max:.2f}..{1 / result.ratio_min:.2f})"
                print(
                    f"{pair.name:40} {result.ours:8.3f} {result.peer:8.3f}  x{1 / result.ratio:.2f} {spread}",
                    flush=True,
                )
        print(f"bytes stored / bytes of pages, 256 MiB: {stored_ratio(folder):.4f}")


if __name__ == "__main__":
    main()
