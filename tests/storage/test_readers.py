"""Readers beside the writer: what a commit has acknowledged is seen, and nothing that never was."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.changes import CloneObject, DropObject, DropPages, PutPages, PutSegment, SegmentRecord
from engine.geometry import TOY
from storage import open_store
from storage.lmdb import store as lmdb_store
from storage.lmdb.housekeeping import Tuning
from storage.lmdb.store import LmdbStore
from storage.lmdb.tables import Tables, Txn
from storage.writer import Writer

PAGES = 1200


@pytest.fixture
def store(data_dir: Path, eager: Tuning) -> Iterator[LmdbStore]:
    made = open_store(data_dir, TOY, tuning=eager)
    made.commit([[PutSegment(SegmentRecord(1, "heap", 0, 0x100, 0o600, 0, 0, "shared", 1))]])
    yield made
    made.close()


def put(pages: list[int], version: int) -> PutPages:
    """Each page says which it is and how often it was written."""
    data = b"".join(page.to_bytes(8, "little") + version.to_bytes(8, "little") for page in pages)
    return PutPages(1, tuple(pages), data)


def version(content: bytes, page: int) -> int:
    assert int.from_bytes(content[:8], "little") == page
    return int.from_bytes(content[8:], "little")


def tidy(store: LmdbStore) -> None:
    while store.maintain():
        pass


def test_a_fetch_between_a_commit_and_its_memory(store: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk has the new state and no longer the old chunk, memory still has the old one: the reader waits."""
    store.commit([[put([5], 1), put([700], 1)]])
    store.commit([[put([5], 2)]])
    found: list[dict[int, bytes]] = []
    readers = [threading.Thread(target=lambda: found.append(store.fetch(1, [5, 700]))) for _ in range(4)]

    def synced(name: str) -> None:
        if name == "commit.synced":
            for reader in readers:
                reader.start()
            readers[0].join(0.05)

    monkeypatch.setattr(lmdb_store, "killpoint", synced)
    store.commit([[put([5, 700], 3)]])
    monkeypatch.undo()
    for reader in readers:
        reader.join()
    assert {(version(pages[5], 5), version(pages[700], 700)) for pages in found} <= {(2, 1), (3, 3)}


def after_begin(monkeypatch: pytest.MonkeyPatch, hook: Callable[[], None]) -> None:
    """Run `hook` once, when the next read transaction has been begun."""
    begin, hooks = Tables._begin, [hook]

    def read(tables: Tables) -> Txn:
        txn = begin(tables)
        if hooks:
            hooks.pop()()
        return txn

    monkeypatch.setattr(Tables, "_begin", read)


def test_a_page_map_that_leaves_memory_during_a_fetch(
    store: LmdbStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader's transaction is older than the row that has just become the only copy: it must not trust it."""
    store.commit([[put(list(range(0, PAGES, 256)), 1)]])
    tidy(store)
    store.commit([[put([5], 2)]])
    after_begin(monkeypatch, lambda: tidy(store))
    assert version(store.fetch(1, [5])[5], 5) == 2


def test_a_page_map_that_leaves_memory_while_its_pages_are_listed(
    store: LmdbStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that only the row in memory had must not be missing from the list."""
    store.commit([[put(list(range(0, PAGES, 256)), 1)]])
    tidy(store)
    store.commit([[put([5], 2)]])
    after_begin(monkeypatch, lambda: tidy(store))
    assert store.stored_pages(1, 0, 256) == [0, 5]


def test_a_chunk_that_is_rewritten_during_a_fetch(store: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader looks up the new place in a transaction that has only the old one."""
    store.commit([[put([page], 1)] for page in range(20)])

    def overwrite() -> None:
        store.commit([[put([5], 2)]])
        tidy(store)

    after_begin(monkeypatch, overwrite)
    assert version(store.fetch(1, [5])[5], 5) == 2
    assert {version(content, page) for page, content in store.fetch(1, range(20)).items()} == {1, 2}


def test_readers_while_everything_moves(store: LmdbStore, seed: int) -> None:
    """Versions never go back for one reader, and are never older than what was acknowledged before."""
    writer = Writer(store)
    rng = random.Random(seed)
    acknowledged = [0] * PAGES
    stop = threading.Event()

    def read(own: random.Random) -> None:
        seen = [0] * PAGES
        while not stop.is_set():
            wanted = own.sample(range(PAGES), 30)
            least = [max(seen[page], acknowledged[page]) for page in wanted]
            found = store.fetch(1, wanted)
            for page, low in zip(wanted, least, strict=True):
                seen[page] = version(found[page], page) if page in found else 0
                assert seen[page] >= low
            assert store.fetch(1, [PAGES + own.randrange(PAGES)]).keys() <= {*range(PAGES, 2 * PAGES)}

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read, random.Random(f"{seed}.{n}")) for n in range(3)]
        try:
            for number in range(1, 300):
                pages = sorted(rng.sample(range(PAGES), rng.choice((1, 5, 70))))
                elsewhere = [PAGES + page for page in pages]
                writer.submit([put(pages, number), put(elsewhere, number), DropPages(1, PAGES, 256)]).result()
                for page in pages:
                    acknowledged[page] = number
        finally:
            stop.set()
        for reader in readers:
            reader.result()
    writer.close()


def test_a_page_map_that_leaves_memory_during_a_fetch_through_layers(
    store: LmdbStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, the row being that of the object's own layer, or of one below."""
    store.commit([[put(list(range(0, PAGES, 256)), 1)]])
    for number in range(2, 5):
        store.commit([[CloneObject(1, number)], [put([5, number + 5], number)]])

    def crowd_out() -> None:
        tidy(store)
        for page in range(300, PAGES, 256):
            store.commit([[put([page], 9)]])
            tidy(store)

    for page, expected in ((5, 4), (5, 7), (7, 2), (8, 3), (0, 1)):
        if expected == 7:
            store.commit([[put([5], 7)]])
        after_begin(monkeypatch, crowd_out)
        assert version(store.fetch(1, [page])[page], page) == expected
    store.commit([[put([9], 8)]])
    after_begin(monkeypatch, crowd_out)
    assert store.stored_pages(1, 0, 256) == [0, 5, 7, 8, 9]


def test_a_merge_during_a_fetch(store: LmdbStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader has looked up a layer that goes while it reads."""
    store.commit([[put(list(range(20)), 1), CloneObject(1, 2)]])
    store.commit([[put([5, 6], 2)]])
    store.commit([[DropObject(2)]])
    after_begin(monkeypatch, lambda: tidy(store))
    found = store.fetch(1, range(20))
    assert [version(found[page], page) for page in range(20)] == [1] * 5 + [2, 2] + [1] * 13
    assert store.usage([1]) == (20, 0)


def test_readers_of_clones_while_everything_moves(store: LmdbStore, seed: int) -> None:
    """A snapshot never changes while it lives; the object never goes back; layers come, merge and go."""
    writer = Writer(store)
    rng = random.Random(seed)
    stop = threading.Event()
    living: dict[int, list[int]] = {}
    current = [0] * PAGES
    writer.submit([put(list(range(PAGES)), 0)]).result()

    def read(own: random.Random) -> None:
        seen = [0] * PAGES
        while not stop.is_set():
            wanted = own.sample(range(PAGES), 30)
            for page, content in store.fetch(1, wanted).items():
                assert version(content, page) >= seen[page]
                seen[page] = version(content, page)
            for snapshot, versions in list(living.items()):
                found = store.fetch(snapshot, wanted)
                if snapshot in living:
                    shown = {page: version(content, page) for page, content in found.items()}
                    assert shown == {page: versions[page] for page in wanted}
            store.usage([1])
            store.differing(1, 2, 0, PAGES)
            assert len(store.stored_pages(1, 0, PAGES)) == PAGES

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read, random.Random(f"{seed}.{n}")) for n in range(3)]
        try:
            for number in range(1, 90):
                if number % 3 == 0:
                    writer.submit([CloneObject(1, number)]).result()
                    living[number] = list(current)
                pages = sorted(rng.sample(range(PAGES), rng.choice((1, 5, 70))))
                writer.submit([put(pages, number)]).result()
                for page in pages:
                    current[page] = number
                if len(living) > 4:
                    gone = rng.choice(list(living))
                    del living[gone]
                    writer.submit([DropObject(gone)]).result()
        finally:
            stop.set()
        for reader in readers:
            reader.result()
    writer.close()
