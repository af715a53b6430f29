"""Receipts, how many pages are held for objects, and statistics: what every store tells."""

import pytest

from engine.changes import (
    RECEIPT_KEY_MAX,
    RECEIPT_VALUE_MAX,
    Change,
    CloneObject,
    DropObject,
    DropPages,
    DropReceipt,
    DropSpace,
    PutPages,
    PutReceipt,
    PutSpace,
    SpaceRecord,
)
from storage.store import Store


def space(vid: int) -> PutSpace:
    return PutSpace(SpaceRecord(vid, f"s{vid}", 0o600, 0, 0, "exclusive", vid))


def pages(object_id: int, *numbers: int) -> PutPages:
    return PutPages(object_id, numbers, bytes(16 * len(numbers)))


def test_receipts_are_kept_replaced_and_dropped(store: Store) -> None:
    longest = (b"\xff" * RECEIPT_KEY_MAX, bytes(range(256)) * (RECEIPT_VALUE_MAX // 256))
    store.commit([[PutReceipt(b"b", b"first"), PutReceipt(b"a", b"")], [PutReceipt(*longest)]])
    assert list(store.load().receipts.items()) == [(b"a", b""), (b"b", b"first"), longest]
    store.commit([[PutReceipt(b"b", b"second"), DropReceipt(b"a"), DropReceipt(b"never put")]])
    store.commit([[DropReceipt(longest[0]), PutReceipt(b"c", b"lost"), DropReceipt(b"c")]])
    assert store.load().receipts == {b"b": b"second"}
    assert store.statistics().receipts == 1


@pytest.mark.parametrize(
    "breach",
    [
        PutReceipt(b"", b"x"),
        PutReceipt(b"x" * (RECEIPT_KEY_MAX + 1), b"x"),
        PutReceipt(b"x", bytes(RECEIPT_VALUE_MAX + 1)),
        DropReceipt(b""),
        DropReceipt(b"x" * (RECEIPT_KEY_MAX + 1)),
    ],
    ids=["no key", "long key", "long value", "drop without key", "drop of a long key"],
)
def test_a_receipt_goes_with_its_transaction(store: Store, breach: Change) -> None:
    with pytest.raises(ValueError):
        store.commit([[space(1), PutReceipt(b"key", b"made 1")], [breach]])
    assert (store.load().spaces, store.load().receipts) == ([], {})
    store.commit([[space(1), PutReceipt(b"key", b"made 1")]])
    assert store.load().receipts == {b"key": b"made 1"}


def test_pages_held_count_what_is_shared_once(store: Store) -> None:
    assert (store.pages_held([]), store.pages_held([7])) == (0, 0)
    store.commit([[space(1), space(2), pages(1, 0, 1, 700), pages(2, 5)]])
    assert [store.pages_held(objects) for objects in ([1], [2], [1, 2], [2, 2])] == [3, 1, 4, 1]
    store.commit([[pages(1, 0, 2)], [DropPages(1, 700, 1)]])
    assert store.pages_held([1]) == 3
    store.commit([[CloneObject(1, 3)]])
    assert [store.pages_held(objects) for objects in ([1], [3], [1, 3], [1, 2, 3])] == [3, 3, 3, 4]
    store.commit([[DropSpace(2)]])
    assert store.pages_held([2]) == 0


def test_pages_held_are_at_least_those_that_exist(store: Store) -> None:
    store.commit([[space(1), pages(1, *range(300))], [CloneObject(1, 2)]])
    store.commit([[pages(2, *range(250, 350)), DropPages(2, 0, 10)]])
    assert 340 <= store.pages_held([2]) <= 410
    assert store.pages_held([1]) == 300
    assert 400 <= store.pages_held([1, 2]) <= 410
    store.commit([[DropObject(2)]])
    while store.maintain():
        pass
    assert store.pages_held([1, 2]) == 300


def test_statistics(store: Store) -> None:
    before = store.statistics()
    assert (before.spaces, before.segments, before.live_pages, before.receipts) == (0, 0, 0, 0)
    store.commit([[space(1), pages(1, *range(100)), PutReceipt(b"key", b"")]])
    after = store.statistics()
    assert (after.spaces, after.segments, after.live_pages, after.receipts) == (1, 0, 100, 1)
    assert after.transactions > before.transactions
    assert after.used_bytes + after.free_bytes == after.file_bytes
    assert after.chunk_bytes <= after.used_bytes
    store.commit([[DropSpace(1), DropReceipt(b"key")]])
    while store.maintain():
        pass
    emptied = store.statistics()
    assert (emptied.spaces, emptied.live_pages, emptied.layers, emptied.receipts) == (0, 0, 0, 0)
