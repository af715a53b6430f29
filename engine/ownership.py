"""Who owns how much: the things of one kind by the uid that they belong to, as they are right now."""

from typing import Generic, TypeVar

from engine.journal import Journal

T = TypeVar("T")


class Owned(Generic[T]):
    """Things of one kind, "space", "segment" or "task", by uid and id. Counting costs the same for one and for a million.

    Who changes it takes that back himself; the transaction in progress is told what changed hands (`owned`).
    """

    __slots__ = ("_by_uid", "_journal", "kind")

    def __init__(self, journal: Journal, kind: str) -> None:
        self._journal = journal
        self.kind = kind
        self._by_uid: dict[int, dict[int, T]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._by_uid.values()))

    def count(self, uid: int) -> int:
        """How many a uid owns."""
        held = self._by_uid.get(uid)
        return 0 if held is None else len(held)

    def of(self, uid: int) -> list[T]:
        """What a uid owns."""
        return list(self._by_uid.get(uid, {}).values())

    def add(self, uid: int, number: int, thing: T) -> None:
        """It belongs to `uid` from now on."""
        held = self._by_uid.get(uid)
        if held is None:
            held = self._by_uid[uid] = {}
        held[number] = thing
        txn = self._journal.current
        if txn is not None:
            txn.owned.append((self.kind, uid, thing, 1))

    def remove(self, uid: int, number: int) -> None:
        """It no longer belongs to `uid`."""
        held = self._by_uid[uid]
        thing = held.pop(number)
        if not held:
            del self._by_uid[uid]
        txn = self._journal.current
        if txn is not None:
            txn.owned.append((self.kind, uid, thing, -1))

    def move(self, number: int, uid: int, to: int) -> None:
        """It goes from one uid to another."""
        thing = self._by_uid[uid][number]
        self.remove(uid, number)
        self.add(to, number, thing)
