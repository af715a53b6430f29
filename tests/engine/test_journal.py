"""Transactions: what is remembered, what is undone, what waits for the settling; and the registry of names."""

from dataclasses import dataclass

import pytest

from engine.changes import DropSpace
from engine.constants import INT_MAX
from engine.credentials import ROOT, Owner
from engine.errors import EngineError
from engine.invariant import InvariantError
from engine.journal import Journal
from engine.names import require_name
from engine.spaces.registry import Registry, change_owner, require_mode, require_type
from tests.engine.host import ALICE, Host


@dataclass(eq=False)
class Thing:
    """Something with a name."""

    name: str
    owner: Owner
    sharing: str = "exclusive"
    flags: int = 0
    pending: int = 0

    def objects(self) -> tuple[int, ...]:
        return ()


def thing(name: str) -> Thing:
    return Thing(name, Owner(0, 0, 0o600))


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def registry(journal: Journal) -> Registry[Thing]:
    return Registry(journal, "thing")


# -- transactions ------------------------------------------------------------------------------------------------


def test_undo_runs_newest_first_and_deferred_work_only_when_settled(journal: Journal) -> None:
    ran: list[str] = []
    for end in ("rollback", "settle"):
        txn = journal.begin()
        journal.undo(lambda: ran.append("first"))
        journal.defer(lambda: ran.append("deferred"))
        journal.undo(lambda: ran.append("second"))
        journal.end()
        assert txn.mutated
        for _ in range(2):
            getattr(txn, end)()
    assert ran == ["second", "first", "deferred"]


def test_outside_a_transaction_nothing_is_remembered_and_nothing_waits(journal: Journal) -> None:
    ran: list[str] = []
    journal.undo(lambda: ran.append("undo"))
    journal.change(DropSpace(1), thing("seen"))
    journal.touch(thing("seen"))
    journal.defer(lambda: ran.append("deferred"))
    assert ran == ["deferred"]
    assert not journal.active


def test_a_transaction_keeps_changes_in_order_and_what_they_touch(journal: Journal) -> None:
    changed, seen = thing("changed"), thing("seen")
    txn = journal.begin()
    journal.change(DropSpace(2), changed)
    journal.change(DropSpace(1), changed)
    journal.touch(seen)
    journal.end()
    assert txn.changes == [DropSpace(2), DropSpace(1)]
    assert txn.touched == {changed, seen}
    assert not txn.mutated


def test_there_is_one_transaction_at_a_time(journal: Journal) -> None:
    journal.begin()
    with pytest.raises(InvariantError, match="I14"):
        journal.begin()


def test_serials_ascend_and_the_oldest_open_one_is_known(journal: Journal) -> None:
    assert journal.serial == 0
    txns = []
    for _ in range(3):
        with journal.begin() as txn:
            assert journal.serial == txn.serial
        txns.append(txn)
    first, second, third = (txn.serial for txn in txns)
    assert first < second < third
    for txn, oldest in ((txns[2], first), (txns[0], second), (txns[0], second), (txns[1], third + 1)):
        txn.rollback() if txn is txns[2] else txn.settle()
        assert journal.oldest_open == oldest


def test_a_machine_takes_back_what_fails_but_keeps_what_is_partial(host: Host) -> None:
    pid, _ = host.inside(pages=2)
    with pytest.raises(EngineError, match="ENOMEM"), host.machine.transaction() as txn:
        host.machine.mprotect(ROOT, pid, None, host.base, 4 * host.page, 1)
    assert txn.mutated
    assert len(txn.changes) == 1
    txn.rollback()
    with pytest.raises(ZeroDivisionError), host.machine.transaction() as txn:
        host.machine.vas_create(ROOT, "new", 0o600)
        raise ZeroDivisionError
    assert not txn.changes
    assert host.refused("vas_find", "new") == "ESRCH"
    assert not host.machine.journal.active


# -- names and ids -----------------------------------------------------------------------------------------------


def test_names_are_unique_and_ids_are_never_used_again(registry: Registry[Thing], journal: Journal) -> None:
    first = registry.new_id("name")
    registry.add(first, thing("name"))
    with pytest.raises(EngineError, match="EEXIST: a thing named 'name' exists"):
        registry.new_id("name")
    assert registry.find("name") == first
    registry.remove(first, registry.get(first))
    with pytest.raises(EngineError, match="ESRCH"):
        registry.find("name")
    with pytest.raises(EngineError, match="EINVAL: no thing 1"):
        registry.get(first)
    txn = journal.begin()
    second = registry.new_id("name")
    registry.add(second, thing("name"))
    journal.end()
    txn.rollback()
    assert len(registry) == 0
    assert registry.new_id("name") == 3


def test_a_removal_taken_back_is_found_again(registry: Registry[Thing], journal: Journal) -> None:
    kept = thing("kept")
    registry.add(registry.new_id("kept"), kept)
    txn = journal.begin()
    registry.remove(1, kept)
    registry.add(registry.new_id("kept"), thing("kept"))
    journal.end()
    assert registry.listed() == [2]
    txn.rollback()
    assert registry.listed() == [1]
    assert registry.get(registry.find("kept")) is kept


def test_ids_stay_below_int_max(registry: Registry[Thing]) -> None:
    registry.next_id = INT_MAX
    with pytest.raises(EngineError, match="ENOSPC"):
        registry.new_id("name")


@pytest.mark.parametrize("name", ["a", "a/b", " ", "ü" * 127, "☃", "\u2028", "x" * 255])
def test_good_names(name: str) -> None:
    require_name(name)


@pytest.mark.parametrize("name", ["", "x" * 256, "ü" * 128, "\0", "a\x1fb", "\x7f", "\x80", "\ud800"])
def test_bad_names(name: str) -> None:
    with pytest.raises(EngineError, match="EINVAL"):
        require_name(name)


def test_modes_lose_their_execute_bits() -> None:
    assert [require_mode(mode) for mode in (0, 0o777, 0o7777, 0xFFFF)] == [0, 0o666, 0o666, 0o666]


def test_types_lose_the_bits_above_accmode() -> None:
    assert [require_type(kind)[0] for kind in (0, 1, 2, 4, 0o700, 0o702)] == [0, 1, 2, 0, 0, 2]
    for kind in (3, 7, -1):
        with pytest.raises(EngineError, match="EINVAL"):
            require_type(kind)


def test_a_change_of_owner_can_be_taken_back(journal: Journal) -> None:
    owner = Owner(1000, 100, 0o640)
    txn = journal.begin()
    change_owner(owner, journal, ROOT, "thing", 0o600, 1001, 200)
    journal.end()
    assert (owner.uid, owner.gid, owner.mode) == (1001, 200, 0o600)
    txn.rollback()
    assert (owner.uid, owner.gid, owner.mode) == (1000, 100, 0o640)
    change_owner(owner, journal, ALICE, "thing", 0o777, None, None)
    assert owner.mode == 0o666
