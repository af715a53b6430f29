"""What a put would add to the pages held: told beforehand, and so it comes."""

from random import Random

import pytest

from engine.changes import CloneObject, DropPages, PutPages, PutSpace, SpaceRecord
from engine.geometry import TOY
from storage.store import Store

PAGE = TOY.page_size


def put(object_id: int, *pages: int) -> PutPages:
    return PutPages(object_id, pages, b"".join(bytes([page % 251 + 1]) * PAGE for page in pages))


def space(vid: int) -> PutSpace:
    return PutSpace(SpaceRecord(vid, f"space-{vid}", 0o600, 0, 0, "exclusive", vid))


def grows(store: Store, objects: list[int], change: PutPages) -> tuple[int, int]:
    """What was told, and by how much the pages held of all objects grew."""
    told, before = store.pages_new(change.object_id, change.pages), store.pages_held(objects)
    store.commit([[change]])
    return told, store.pages_held(objects) - before


def test_pages_of_what_does_not_exist_are_new(store: Store) -> None:
    assert store.pages_new(7, [1, 2, 300]) == 3


def test_a_page_is_new_once_and_again_after_each_clone(store: Store) -> None:
    store.commit([[space(1), space(2), put(1, 1, 2)]])
    assert grows(store, [1], put(1, 2, 3)) == (1, 1)
    assert grows(store, [1], put(1, 1, 2, 3)) == (0, 0)
    store.commit([[CloneObject(1, 2)]])
    assert grows(store, [1, 2], put(1, 1, 2)) == (2, 2)
    assert grows(store, [1, 2], put(1, 1, 2, 3)) == (1, 1)
    told, grown = grows(store, [1, 2], put(2, 1))
    assert told == grown


def test_after_a_drop_a_page_is_new_unless_the_drop_is_kept(store: Store) -> None:
    store.commit([[space(1), put(1, 1, 2)], [DropPages(1, 1, 1)]])
    assert grows(store, [1], put(1, 1)) == (1, 1)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_told_comes(store: Store, seed: int) -> None:
    random = Random(seed)
    objects = [1, 2, 3]
    store.commit([[space(vid) for vid in objects]])
    for _ in range(25):
        object_id, other = random.sample(objects, 2)
        what = random.choice(["put", "put", "put", "drop", "clone"])
        if what == "put":
            told, grown = grows(store, objects, put(object_id, *sorted(random.sample(range(6), 3))))
            assert told == grown
        elif what == "drop":
            store.commit([[DropPages(object_id, random.randrange(6), 2)]])
        else:
            store.commit([[CloneObject(object_id, other)]])
