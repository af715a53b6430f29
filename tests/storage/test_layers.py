"""Layers: how they come and go, how two become one, and what a crash or damage in the middle leaves."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import pytest

from engine.changes import (
    Change,
    CloneObject,
    DropObject,
    DropPages,
    DropSegment,
    PutPages,
    PutSegment,
    SegmentRecord,
)
from engine.geometry import TOY, X86_64
from storage import open_store
from storage.directory import STORE_FILE
from storage.errors import StoreFailed
from storage.lmdb import comparing
from storage.lmdb.housekeeping import Tuning
from storage.lmdb.layers import encode_layer
from storage.lmdb.store import LmdbStore
from storage.rows.chunks import encode_chunk
from storage.rows.format import FIRST_LAYER, STATE_KEY, TABLES, State
from storage.rows.nodes import HOLE, NODE_KEY, encode_node
from storage.rows.records import encode_segment
from storage.upkeep.fsck import check_dir

NODE = 256
SMALL = Tuning(tail_entries=8, obsolete_rows=2, slack_pages=2, step_rows=2, step_chunks=1)


def segment(sid: int, object_id: int | None = None) -> PutSegment:
    return PutSegment(SegmentRecord(sid, f"g{sid}", 0, 1 << 40, 0o600, 0, 0, "shared", object_id or sid))


def put(object_id: int, pages: list[int] | range, mark: int = 0) -> PutPages:
    data = b"".join((page << 20 | mark).to_bytes(16, "little") for page in pages)
    return PutPages(object_id, tuple(pages), data)


def tidy(store: LmdbStore) -> int:
    steps = 0
    while store.maintain():
        steps += 1
    return steps


def chain(store: LmdbStore, object_id: int) -> list[int]:
    return store._locations.layers.chain(object_id)


def everything(store: LmdbStore, *objects: int) -> list[dict[int, bytes]]:
    return [store.fetch(number, store.stored_pages(number, 0, 1 << 58)) for number in objects]


def test_clones_without_a_write_share_one_layer(data_dir: Path) -> None:
    store = open_store(data_dir, TOY)
    store.commit([[segment(1), put(1, range(300))]])
    store.commit([[CloneObject(1, number)] for number in range(2, 50)])
    assert {layer for number in range(1, 50) for layer in chain(store, number)} == {1}
    store.commit([[put(2, [0], 2)]])
    assert chain(store, 2) == [FIRST_LAYER, 1]
    store.commit([[CloneObject(2, 3)], [DropPages(2, 0, 1), CloneObject(2, 4), CloneObject(2, 3)]])
    assert chain(store, 2) == chain(store, 3) == chain(store, 4) == [FIRST_LAYER + 1, FIRST_LAYER, 1]
    store.close()


def test_the_last_on_a_layer_writes_to_it(data_dir: Path) -> None:
    store = open_store(data_dir, TOY)
    store.commit([[segment(1), put(1, [0])], [CloneObject(1, 2)]])
    store.commit([[DropObject(2), put(1, [1])]])
    assert chain(store, 1) == [1]
    store.commit([[CloneObject(1, 3), DropSegment(1)], [put(3, [2])]])
    assert chain(store, 3) == [1]
    assert store.fetch(3, range(9)).keys() == {0, 1, 2}
    assert store.fetch(1, range(9)) == {}
    with pytest.raises(ValueError, match="object 1, which is gone"):
        store.commit([[put(1, [4])]])
    store.close()


@pytest.mark.parametrize("reopens", [False, True], ids=["", "reopened"])
def test_snapshots_that_come_and_go_leave_nothing(data_dir: Path, seed: int, reopens: bool) -> None:
    """Snapshot, write, delete the snapshot; again and again."""
    rng, pages = random.Random(seed), range(0, 4 * NODE, 3)
    store = open_store(data_dir, TOY, tuning=SMALL)
    store.commit([[segment(1), put(1, pages)]])
    depths = []
    for turn in range(120):
        change = put(1, sorted(rng.sample(pages, 20)), turn)
        drop = DropPages(1, rng.randrange(4 * NODE), 2)
        commits: list[list[Change]] = [[CloneObject(1, 10 + turn)], [change, drop], [DropObject(10 + turn)]]
        for changes in commits:
            store.commit([changes])
            expected = everything(store, 1)
            store.maintain(urgent_only=bool(turn % 2))
        if reopens and not turn % 7:
            store.close()
            store = open_store(data_dir, TOY, tuning=SMALL)
        assert everything(store, 1) == expected
        depths.append(len(chain(store, 1)))
    assert max(depths) < 30
    tidy(store)
    assert everything(store, 1) == expected
    assert len(chain(store, 1)) == 1
    assert store.statistics().live_pages == len(expected[0])
    assert store._locations.layers.parents == {}
    assert store._locations.dead == {}
    store.close()


MERGES: list[tuple[str, Callable[[LmdbStore], None], int]] = [
    ("a small upper layer goes", lambda store: store.commit([[put(1, range(0, 900, 90), 1)]]), 1),
    ("a small lower layer goes", lambda store: store.commit([[put(1, range(4 * NODE), 1)]]), FIRST_LAYER),
    ("holes go down", lambda store: store.commit([[DropPages(1, 100, 3)]]), 1),
    (
        "holes and pages go up",
        lambda store: store.commit([[put(1, range(1, 900, 2), 1), DropPages(1, 20, 700)]]),
        FIRST_LAYER,
    ),
]


@pytest.mark.parametrize("grounded", [True, False], ids=["", "over a third"])
@pytest.mark.parametrize(("_name", "change", "left"), MERGES, ids=[name for name, _, _ in MERGES])
def test_a_merge_may_be_cut_short_at_every_step(
    tmp_path: Path, _name: str, change: Callable[[LmdbStore], None], left: int, grounded: bool
) -> None:
    """What the file holds after each step is what a crash would leave: it shows the same, and comes to the same end."""
    store = open_store(tmp_path / "data", TOY, tuning=SMALL)
    store.commit([[segment(1), put(1, range(0, 4 * NODE, 2))]])
    if not grounded:
        store.commit([[CloneObject(1, 5)], [put(1, range(0, 4 * NODE, 3), 7), DropPages(1, 300, 40)]])
        left = FIRST_LAYER if left == 1 else FIRST_LAYER + 1
    store.commit([[CloneObject(1, 2)]])
    change(store)
    store.commit([[DropObject(2)]])
    expected = everything(store, 1, 5)
    for step in range(200):
        copy = tmp_path / f"step {step}"
        copy.mkdir()
        shutil.copyfile(tmp_path / "data" / STORE_FILE, copy / STORE_FILE)
        assert list(check_dir(copy)) == []
        again = open_store(copy, TOY, tuning=SMALL)
        assert everything(again, 1, 5) == expected
        tidy(again)
        assert everything(again, 1, 5) == expected
        assert chain(again, 1) == ([left] if grounded else [left, 1])
        again.close()
        assert list(check_dir(copy)) == []
        assert everything(store, 1, 5) == expected
        if not store.maintain():
            break
    assert step > 0
    store.close()


def test_a_merge_goes_on_while_both_sides_change(data_dir: Path, seed: int) -> None:
    rng = random.Random(seed)
    store = open_store(data_dir, TOY, tuning=SMALL)
    store.commit([[segment(1), put(1, range(0, 8 * NODE, 2))], [CloneObject(1, 2)]])
    store.commit([[put(1, range(0, 8 * NODE, 5), 1)], [DropObject(2)]])
    model = everything(store, 1)[0]
    for turn in range(40):
        pages = sorted(rng.sample(range(8 * NODE), 30))
        change = put(1, pages, turn + 2)
        store.commit([[change, DropPages(1, turn * 40, 3)], [CloneObject(1, 3)] if turn % 9 == 8 else []])
        for position, page in enumerate(pages):
            model[page] = change.data[position * 16 : position * 16 + 16]
        for page in range(turn * 40, turn * 40 + 3):
            model.pop(page, None)
        store.maintain()
        assert everything(store, 1) == [model]
    store.close()


def test_a_chain_that_is_freed_at_once(data_dir: Path) -> None:
    store = open_store(data_dir, TOY, tuning=SMALL)
    store.commit([[segment(1), put(1, range(600))]])
    for turn in range(50):
        store.commit([[CloneObject(1, 10 + turn)], [put(1, [turn], turn)]])
    assert len(chain(store, 1)) == 51
    store.commit([[DropSegment(1)], [DropObject(10 + turn) for turn in range(50)]])
    tidy(store)
    assert store.statistics().live_pages == 0
    assert (store._locations.layers.parents, store._locations.layers.objects) == ({}, {})
    store.close()


def test_a_damaged_page_keeps_its_layers_apart(tmp_path: Path) -> None:
    """A page whose bytes are wrong is not put again under a good checksum."""
    page = X86_64.page_size
    store = open_store(tmp_path, X86_64)
    marks = {number: bytes([number]) * page for number in range(1, 5)}
    store.commit([[segment(1), PutPages(1, (1, 2), marks[1] + marks[2])], [CloneObject(1, 2)]])
    store.commit([[PutPages(1, (2, 3, 4), marks[3] * 3)], [DropObject(2)]])
    position = (tmp_path / STORE_FILE).read_bytes().index(marks[1][:64])
    store.close()
    with (tmp_path / STORE_FILE).open("r+b") as file:
        file.seek(position)
        file.write(b"\xff")
    store = open_store(tmp_path, X86_64)
    assert tidy(store) < 10
    assert len(chain(store, 1)) == 2
    with pytest.raises(StoreFailed, match="page 1 of object 1 is damaged"):
        store.fetch(1, [1])
    assert store.fetch(1, [2, 4]) == {2: marks[3], 4: marks[3]}
    store.close()
    assert any("page 1 of layer 1" in problem for problem in check_dir(tmp_path))


def test_a_clone_of_much_costs_what_one_of_little_does(data_dir: Path) -> None:
    """Rows, not pages: what the tables occupy grows by the same after 256 pages and after 262144 (of 4096 bytes: 1 GiB)."""
    grown = []
    for sid, count in ((1, NODE), (2, 1024 * NODE)):
        store = open_store(data_dir, TOY)
        store.commit([[segment(sid)]])
        for base in range(0, count, 64 * NODE):
            store.commit([[put(sid, range(base, min(base + 64 * NODE, count)))]])
        tidy(store)
        store.commit([[segment(sid + 10, 10 * sid)]])
        before = store._tables.used_pages()
        store.commit([[CloneObject(sid, 10 * sid)]])
        assert store.usage([10 * sid]) == (count, count)
        assert store.usage([10 * sid, sid]) == (count, 0)
        grown.append((store._tables.used_pages() - before) * store._tables.env.stat()["psize"])
        store.close()
    assert grown[1] <= grown[0] < 64 << 10


def test_what_is_compared_in_many_parts(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "STEP_NODES", 2)
    store = open_store(data_dir, TOY, tuning=SMALL)
    store.commit([[segment(1), put(1, range(0, 20 * NODE, 100)), CloneObject(1, 2)]])
    store.commit(
        [[put(1, range(50, 20 * NODE, 300), 1), put(1, [1 << 40]), DropPages(2, 3 * NODE, 7 * NODE)]]
    )
    tidy(store)
    left, right = everything(store, 1, 2)
    unlike = sorted(page for page in left.keys() | right.keys() if left.get(page) != right.get(page))
    assert store.differing(1, 2, 0, 1 << 58) == unlike
    assert store.differing(2, 1, 1000, 2000) == [page for page in unlike if 1000 <= page < 3000]
    assert store.usage([1]) == (len(left), len(left) - len(range(50, 20 * NODE, 300)) - 1)
    assert store.usage([2, 1]) == (len(right), 0)
    store.close()


def test_deep_chains_are_read_right(data_dir: Path, seed: int) -> None:
    """With few nodes in memory, with the overlay warm and cold, before and after everything moved."""
    rng = random.Random(seed)
    store = open_store(
        data_dir, TOY, tuning=Tuning(nodes_max=40, tail_entries=50, slack_pages=4, step_rows=8)
    )
    store.commit([[segment(1), put(1, range(0, 2000, 2))]])
    model, snapshots = everything(store, 1)[0], {}
    for turn in range(60):
        store.commit([[CloneObject(1, 10 + turn)]])
        snapshots[10 + turn] = dict(model)
        change = put(1, sorted(rng.sample(range(2000), 9)), turn)
        store.commit([[change, DropPages(1, turn * 33, 4)]])
        model |= {page: change.data[at * 16 : at * 16 + 16] for at, page in enumerate(change.pages)}
        model = {page: text for page, text in model.items() if not turn * 33 <= page < turn * 33 + 4}
        some = sorted(rng.sample(range(2000), 50))
        assert store.fetch(1, some) == {page: model[page] for page in some if page in model}
        store.maintain()
    for number in rng.sample(sorted(snapshots), 30):
        del snapshots[number]
        store.commit([[DropObject(number)]])
    for _ in range(2):
        for number, pages in snapshots.items():
            assert store.fetch(number, range(2000)) == pages
        tidy(store)
    store.close()


# --- what fsck names

LAYER = FIRST_LAYER + 9


@pytest.fixture
def cloned(tmp_path: Path) -> Path:
    """Object 1 on layer FIRST_LAYER over layer 1, where its clone 2 is."""
    store = open_store(tmp_path, TOY)
    store.commit([[segment(1), put(1, range(3)), CloneObject(1, 2)], [put(1, [1], 1), DropPages(1, 2, 1)]])
    store.close()
    assert list(check_dir(tmp_path)) == []
    return tmp_path


def lone_chunk(lsn: int, layer: int) -> tuple[bytes, bytes]:
    return encode_chunk(lsn, np.array([layer], np.uint64), np.array([7], np.uint64), [b"x" * 16])


def node(layer: int, entry: int) -> tuple[bytes, bytes]:
    key, entries = NODE_KEY.pack(layer, 0), np.zeros(NODE, np.uint64)
    entries[7] = entry
    return key, encode_node(key, entries)


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([("objects", *encode_layer(1, LAYER))], f"layer {FIRST_LAYER} has pages, but no object"),
        ([("objects", *encode_layer(1, LAYER))], f"layer {LAYER} exists, but the next one would be"),
        ([("objects", *encode_layer(99, 99))], "object 99 exists, but the next one would be 3"),
        ([("layers", *encode_layer(LAYER, 1))], f"layer {LAYER} stands on layer 1, but no object on it"),
        ([("log", *lone_chunk(9, 5)), ("nodes", *node(5, 9 << 6))], "layer 5 has pages, but no object"),
        ([("nodes", *node(5, HOLE))], "layer 5 has pages, but no object"),
        ([("layers", *encode_layer(1, FIRST_LAYER))], "is its own ancestor"),
        ([("objects", encode_layer(1, 1)[0], b"x" * 16)], "the row of object 0000000000000001 is damaged"),
        ([("layers", encode_layer(3, 1)[0], b"x" * 16)], "the row of layer 0000000000000003 is damaged"),
        ([("births", bytes(7) + b"\1", b"x" * 16)], "the row of birth 0000000000000001 is damaged"),
        ([("roots", bytes(7) + b"\1a", b"x" * 16)], "the row of root 000000000000000161 is damaged"),
        ([("receipts", b"key", b"x" * 16)], "the row of receipt 6b6579 is damaged"),
        ([("segments", *encode_segment(segment(1).record._replace(origin=1)))], "which is not older"),
        ([("segments", *encode_segment(segment(1).record._replace(flags=8)))], "segment 1 has the flags 0x8"),
        (
            [("meta", STATE_KEY, State(2, 2, 3, 0, FIRST_LAYER).encode())],
            f"layer {FIRST_LAYER} exists, but the next one would be {FIRST_LAYER}",
        ),
    ],
)
def test_fsck_names_what_does_not_fit(
    cloned: Path, rows: list[tuple[str, bytes, bytes]], problem: str
) -> None:
    env = lmdb.open(str(cloned / STORE_FILE), subdir=False, max_dbs=len(TABLES), map_size=1 << 30)
    tables = {name: env.open_db(name.encode()) for name in TABLES}
    with env.begin(write=True) as txn:
        for table, key, value in rows:
            txn.put(key, value, db=tables[table])
    env.close()
    found = list(check_dir(cloned))
    assert any(problem in line for line in found), found
