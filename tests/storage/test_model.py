"""Random groups of transactions, failures, restarts and crashes: the LMDB store against the memory store."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from engine.changes import (
    BirthRecord,
    Change,
    CloneObject,
    DropObject,
    DropPages,
    DropReceipt,
    DropRegion,
    DropRoot,
    DropSegment,
    DropSpace,
    PutBirth,
    PutPages,
    PutReceipt,
    PutRegion,
    PutRoot,
    PutSegment,
    PutSpace,
    RegionRecord,
    SegmentRecord,
    SpaceRecord,
)
from engine.geometry import TOY
from storage import open_store
from storage.directory import STORE_FILE
from storage.errors import StoreFailed
from storage.failpoints import fail_at
from storage.lmdb.housekeeping import Tuning
from storage.lmdb.store import LmdbStore
from storage.memory import MemoryStore
from storage.upkeep.backup import back_up_store
from storage.upkeep.compaction import compact
from storage.upkeep.fsck import check_dir
from storage.upkeep.restoring import restore

PAGES = (*range(6), *range(253, 259), 511, 512, 1 << 20, 1 << 40)
TUNINGS = (
    Tuning(),
    Tuning(nodes_max=2, tail_entries=3, obsolete_rows=1, slack_pages=0, step_rows=2, step_chunks=1),
    Tuning(nodes_max=1, tail_entries=40, obsolete_rows=3, slack_pages=2, step_rows=1, step_chunks=2),
)


class Chooser:
    """Chooses changes that fit what exists, and lets what exists follow."""

    def __init__(self, rng: Random, model: MemoryStore) -> None:
        self._rng = rng
        image = model.load()
        self._spaces = {record.vid: record for record in image.spaces}
        self._segments = {record.sid: record for record in image.segments}
        self._unowned = list(image.unowned)
        self._next_id = max(image.next_vid, image.next_sid, image.next_object)

    def transactions(self) -> list[list[Change]]:
        return [
            [self._change() for _ in range(self._rng.randint(0, 9))] for _ in range(self._rng.randint(1, 3))
        ]

    def _change(self) -> Change:
        kinds: list[Callable[[], Change]] = [self._new_space, self._new_segment, self._receipt]
        if self._objects():
            kinds += [self._put_pages] * 6 + [self._drop_pages] * 2 + [self._clone] * 3
        if len(self._objects()) > 1:
            kinds += [self._clone_onto]
        if self._unowned:
            kinds += [self._drop_object] * 2 + [self._give_birth] * bool(self._spaces)
        if self._spaces:
            kinds += [self._put_region] * 2 + [self._drop_region, self._drop_space]
            kinds += [self._put_root, self._drop_root, self._put_birth]
        if self._segments:
            kinds += [self._drop_segment]
        return self._rng.choice(kinds)()

    def _fresh(self) -> int:
        self._next_id += 1
        return self._next_id

    def _objects(self) -> list[int]:
        owned = [record.object_id for record in self._spaces.values()]
        owned += [record.object_id for record in self._segments.values()]
        births = [record.birth for record in self._spaces.values() if record.birth]
        return [*owned, *births, *self._unowned]

    def _object(self) -> int:
        return self._rng.choice(self._objects())

    def _clone(self) -> Change:
        source, target = self._object(), self._fresh()
        self._unowned.append(target)
        return CloneObject(source, target)

    def _clone_onto(self) -> Change:
        source, target = self._rng.sample(self._objects(), 2)
        return CloneObject(source, target)

    def _drop_object(self) -> Change:
        object_id = self._rng.choice(self._unowned)
        self._unowned.remove(object_id)
        return DropObject(object_id)

    def _give_birth(self) -> Change:
        """A space takes an unowned object as its birth; the one it had, if any, loses its owner."""
        record, birth = self._rng.choice([*self._spaces.values()]), self._rng.choice(self._unowned)
        self._unowned.remove(birth)
        self._unowned += [record.birth] * bool(record.birth)
        self._spaces[record.vid] = record._replace(birth=birth, origin=record.vid - 1, flags=2)
        return PutSpace(self._spaces[record.vid])

    def _put_birth(self) -> Change:
        regions = tuple(RegionRecord(start, start + 16, 3, False, 0, 2, 1 << 40) for start in (0, 32))
        count = self._rng.randrange(3)
        return PutBirth(
            self._rng.choice([*self._spaces]), BirthRecord(regions[:count], (("ä", 16), ("b", 8))[:count])
        )

    def _put_root(self) -> Change:
        return PutRoot(self._rng.choice([*self._spaces]), self._rng.choice("abc"), self._rng.randrange(99))

    def _drop_root(self) -> Change:
        return DropRoot(self._rng.choice([*self._spaces]), self._rng.choice("abc"))

    def _receipt(self) -> Change:
        key = self._rng.choice((b"a", b"b", b"\xff" * 64))
        return self._rng.choice((PutReceipt(key, self._rng.randbytes(9)), DropReceipt(key)))

    def _new_space(self) -> Change:
        vid, object_id = self._fresh(), self._fresh()
        self._spaces[vid] = SpaceRecord(vid, f"space {vid}", 0o600, 0, 0, "exclusive", object_id)
        return PutSpace(self._spaces[vid])

    def _new_segment(self) -> Change:
        sid, object_id = self._fresh(), self._fresh()
        self._segments[sid] = SegmentRecord(sid, f"segment {sid}", 0, 64, 0o600, 0, 0, "shared", object_id)
        return PutSegment(self._segments[sid])

    def _drop_space(self) -> Change:
        vid = self._rng.choice([*self._spaces])
        del self._spaces[vid]
        return DropSpace(vid)

    def _drop_segment(self) -> Change:
        sid = self._rng.choice([*self._segments])
        del self._segments[sid]
        return DropSegment(sid)

    def _put_region(self) -> Change:
        start = self._rng.randrange(4) * 16
        return PutRegion(self._rng.choice([*self._spaces]), RegionRecord(start, start + 16, 3, False, 0, 2))

    def _drop_region(self) -> Change:
        return DropRegion(self._rng.choice([*self._spaces]), self._rng.randrange(4) * 16)

    def _put_pages(self) -> Change:
        pages = sorted(self._rng.sample(PAGES, self._rng.randint(1, len(PAGES))))
        return PutPages(self._object(), tuple(pages), self._rng.randbytes(TOY.page_size * len(pages)))

    def _drop_pages(self) -> Change:
        return DropPages(self._object(), self._rng.choice(PAGES), self._rng.choice((1, 3, 256, 700, 1 << 41)))


class StoreMachine(RuleBasedStateMachine):
    """Every step is done by both stores; afterwards both must show the same."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.lives = 0
        self.model = MemoryStore(TOY)
        self.objects: set[int] = set()
        self.tuning = Tuning()

    @property
    def path(self) -> Path:
        return Path(self.folder.name) / str(self.lives)

    @initialize(tuning=st.sampled_from(TUNINGS))
    def begin(self, tuning: Tuning) -> None:
        self.tuning = tuning
        self.store: LmdbStore = open_store(self.path, TOY, tuning=tuning)

    @rule(rng=st.randoms(use_true_random=False))
    def commit(self, rng: Random) -> None:
        transactions = Chooser(rng, self.model).transactions()
        self.store.commit(transactions)
        self._follow(transactions)

    @rule(rng=st.randoms(use_true_random=False), passage=st.integers(1, 8))
    def commit_that_may_fail(self, rng: Random, passage: int) -> None:
        transactions = Chooser(rng, self.model).transactions()
        with fail_at(passage, StoreFailed("made to fail")):
            try:
                self.store.commit(transactions)
            except StoreFailed:
                return
        self._follow(transactions)

    @rule(urgent_only=st.booleans())
    def maintain(self, urgent_only: bool) -> None:
        self.store.maintain(urgent_only=urgent_only)

    @rule(passage=st.integers(1, 8))
    def maintain_that_may_fail(self, passage: int) -> None:
        with fail_at(passage, StoreFailed("made to fail")):
            try:
                self.store.maintain()
            except StoreFailed:
                return

    @rule()
    def maintain_to_the_end(self) -> None:
        while self.store.maintain():
            pass

    @rule(tuning=st.sampled_from(TUNINGS))
    def restart(self, tuning: Tuning) -> None:
        self.store.close()
        self.store = open_store(self.path, TOY, tuning=tuning)

    @rule(tuning=st.sampled_from(TUNINGS))
    def crash(self, tuning: Tuning) -> None:
        """What is in the file now is what a killed process would leave; the old store closes elsewhere."""
        left = self.path / STORE_FILE
        self.lives += 1
        self.path.mkdir()
        shutil.copyfile(left, self.path / STORE_FILE)
        self.store.close()
        assert list(check_dir(self.path)) == []
        self.store = open_store(self.path, TOY, tuning=tuning)

    @rule(tuning=st.sampled_from(TUNINGS))
    def go_on_from_a_backup(self, tuning: Tuning) -> None:
        """A backup of the open store is restored, and takes its place."""
        file = self.path.with_suffix(".backup")
        back_up_store(self.store.tables, self.path, file)
        self.lives += 1
        restore(file, self.path)
        self.store.close()
        self.store = open_store(self.path, TOY, tuning=tuning)

    @rule(tuning=st.sampled_from(TUNINGS))
    def compact(self, tuning: Tuning) -> None:
        self.store.close()
        compact(self.path)
        self.store = open_store(self.path, TOY, tuning=tuning)

    @invariant()
    def both_show_the_same(self) -> None:
        if not hasattr(self, "store"):
            return
        assert self.store.load() == self.model.load()
        known = sorted(self.model.objects())
        assert self.store.pages_held(known) >= self.model.pages_held(known)
        for object_id, other in pairwise(known):
            pages = self.store.differing(object_id, other, 0, 1 << 58)
            assert pages == self.model.differing(object_id, other, 0, 1 << 58)
        for objects in ([object_id] for object_id in known):
            (logical, shared), expected = self.store.usage(objects), self.model.usage(objects)
            assert logical == expected[0] and expected[1] <= shared <= logical
        for object_id in self.objects:
            assert self.store.fetch(object_id, PAGES) == self.model.fetch(object_id, PAGES)
            for first, count in ((0, 1 << 40), (1, 3)):
                shown = self.store.stored_pages(object_id, first, count)
                assert shown == self.model.stored_pages(object_id, first, count)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            assert list(check_dir(self.path)) == []
        self.folder.cleanup()

    def _follow(self, transactions: list[list[Change]]) -> None:
        self.model.commit(transactions)
        self.objects |= self.model.objects()


def test_the_lmdb_store_behaves_as_the_memory_store() -> None:
    run_state_machine_as_test(
        StoreMachine, settings=settings(max_examples=60, stateful_step_count=40, deadline=None)
    )


class ForgetsDrops(MemoryStore):
    """The canary: a model that is wrong in one thing."""

    def commit(self, transactions: Sequence[Sequence[Change]]) -> None:
        super().commit(
            [[change for change in changes if not isinstance(change, DropPages)] for changes in transactions]
        )


def test_the_canary_is_caught() -> None:
    class WrongMachine(StoreMachine):
        def __init__(self) -> None:
            super().__init__()
            self.model = ForgetsDrops(TOY)

    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            WrongMachine,
            settings=settings(
                max_examples=200,
                stateful_step_count=30,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                report_multiple_bugs=False,
            ),
        )
