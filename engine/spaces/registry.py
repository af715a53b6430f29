"""Names and ids of spaces and of segments: unique names, ids that are never reused."""

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from engine.access import ATTACH_RIGHTS, Access
from engine.constants import (
    EXCLUSIVE,
    ID_MAX,
    INT_MAX,
    LOCKABLE,
    MODE_MASK,
    O_ACCMODE,
    O_RDONLY,
    SHARES_MAX,
    SHARING,
)
from engine.credentials import Credentials, Owner
from engine.errors import EBUSY, EEXIST, EINVAL, ENOSPC, EPERM, ESRCH, EngineError
from engine.journal import Journal
from engine.names import require_name, with_suffix
from engine.ownership import Owned

MODE_ARGUMENT_MAX = 0xFFFF
_NUMBERS_TRIED = 10


class Named(Protocol):
    """A space or a segment."""

    name: str
    owner: Owner
    sharing: str
    flags: int
    pending: int

    def objects(self) -> tuple[int, ...]:
        """Of the store: its memory, and what it was born with."""


T = TypeVar("T", bound=Named)


class Registry(Generic[T]):
    """Live objects by id and by name. `kind` is what messages call them; `owned` tells whose they are.

    The registry itself is touched by whatever depends on a name or an id being there, or not being there.
    `has_lockable`: there is or was an object whose sharing is "lockable".
    """

    __slots__ = (
        "_by_id",
        "_by_name",
        "_by_object",
        "_journal",
        "has_lockable",
        "kind",
        "next_id",
        "on_lockable",
        "owned",
        "pending",
    )

    def __init__(self, journal: Journal, kind: str) -> None:
        self._journal = journal
        self.kind = kind
        self.next_id = 1
        self.pending = 0
        self.has_lockable = False
        self.on_lockable: Callable[[], None] = lambda: None
        """Told when `has_lockable` becomes true."""
        self._by_id: dict[int, T] = {}
        self._by_name: dict[str, int] = {}
        self._by_object: dict[int, T] = {}
        self.owned: Owned[T] = Owned(journal, kind)

    def __iter__(self) -> Iterator[T]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def new_id(self, name: str) -> int:
        """The next id for a new object. EEXIST: the name is taken; ENOSPC: no ids are left."""
        self.require_free(name)
        if self.next_id >= INT_MAX:
            raise EngineError(ENOSPC, f"no {self.kind} ids are left")
        self.next_id += 1
        return self.next_id - 1

    def add(self, number: int, thing: T) -> None:
        """Make an object findable."""
        self._insert(number, thing)
        self.note_sharing(thing)
        self._journal.undo(self._erase, number, thing)

    def note_sharing(self, thing: T) -> None:
        """Told how each object is shared, when it comes and when that changes."""
        if thing.sharing == LOCKABLE and not self.has_lockable:
            self.has_lockable = True
            self.on_lockable()

    def is_lockable(self, number: int) -> bool:
        """Whether an id names an object whose sharing is "lockable"."""
        thing = self._by_id.get(number)
        return thing is not None and thing.sharing == LOCKABLE

    def remove(self, number: int, thing: T) -> None:
        """Make an object unfindable; its id stays used."""
        self._journal.touch(self)
        self._erase(number, thing)
        self._journal.undo(self._insert, number, thing)

    def rename(self, number: int, thing: T, name: str) -> None:
        """Give an object another name. EINVAL: not a name; EEXIST: taken."""
        if name == thing.name:
            return
        self.require_free(name)
        before = thing.name

        def set_name(new: str) -> None:
            del self._by_name[thing.name]
            thing.name = new
            self._by_name[new] = number

        set_name(name)
        self._journal.undo(set_name, before)

    def free_name(self, wanted: str) -> str:
        """`wanted`, or what comes nearest to it: cut to the longest name, with a suffix that no other has."""
        self._journal.touch(self)
        stem = wanted.encode()
        for number in range(1, _NUMBERS_TRIED):
            name = with_suffix(stem, f"~{number}" if number > 1 else "")
            if name not in self._by_name:
                return name
        number = self.next_id
        while (name := with_suffix(stem, f"~{number}")) in self._by_name:
            number += 1
        return name

    def get(self, number: int) -> T:
        """EINVAL for an id that names nothing, as in the source."""
        thing = self._by_id.get(number)
        if thing is None:
            self._journal.touch(self)
            raise EngineError(EINVAL, f"no {self.kind} {number}")
        self._journal.touch(thing)
        return thing

    def peek(self, number: int) -> T | None:
        """`get`, or None for an id that names nothing."""
        thing = self._by_id.get(number)
        self._journal.touch(self if thing is None else thing)
        return thing

    def find(self, name: str) -> int:
        """The id of a name. EINVAL: not a name; ESRCH: nothing has it."""
        require_name(name)
        number = self._by_name.get(name)
        if number is None:
            self._journal.touch(self)
            raise EngineError(ESRCH, f"no {self.kind} named {name!r}")
        self._journal.touch(self._by_id[number])
        return number

    def listed(self) -> list[int]:
        """All ids, ascending."""
        self._journal.touch(self)
        return sorted(self._by_id)

    def require_free(self, name: str) -> None:
        """EINVAL: not a name; EEXIST: taken."""
        require_name(name)
        self._journal.touch(self)
        if name in self._by_name:
            raise EngineError(
                EEXIST, f"a {self.kind} named {name!r} exists", holder=f"{self.kind} {self._by_name[name]}"
            )

    def change_owner(
        self, number: int, cred: Credentials, mode: int | None, uid: int | None, gid: int | None
    ) -> None:
        """See the function of this name."""
        owner = self._by_id[number].owner
        before = owner.uid
        change_owner(owner, self._journal, cred, f"{self.kind} {number}", mode, uid, gid)
        if owner.uid != before:
            self.owned.move(number, before, owner.uid)
            self._journal.undo(self.owned.move, number, owner.uid, before)

    def owner_of(self, object_id: int) -> int | None:
        """The uid that owns an object of the store; None: it is of nothing here."""
        thing = self._by_object.get(object_id)
        return None if thing is None else thing.owner.uid

    def _insert(self, number: int, thing: T) -> None:
        self._by_id[number] = thing
        self._by_name[thing.name] = number
        for object_id in thing.objects():
            self._by_object[object_id] = thing
        self.owned.add(thing.owner.uid, number, thing)

    def _erase(self, number: int, thing: T) -> None:
        del self._by_id[number]
        del self._by_name[thing.name]
        for object_id in thing.objects():
            del self._by_object[object_id]
        self.owned.remove(thing.owner.uid, number)


def require_mode(mode: int) -> int:
    """The bits of a mode that are kept. EINVAL when it is not a umode_t."""
    if not 0 <= mode <= MODE_ARGUMENT_MAX:
        raise EngineError(EINVAL, f"mode {mode}")
    return mode & MODE_MASK


def require_sharing(sharing: str) -> str:
    """EINVAL for a word that names no way of sharing."""
    if sharing not in SHARING:
        raise EngineError(EINVAL, f"sharing {sharing!r} is not one of {', '.join(SHARING)}")
    return sharing


def require_type(attach_type: int) -> tuple[int, Access]:
    """An attach type and the mode bits it needs; bits above O_ACCMODE are ignored, 3 is EINVAL, as in the source."""
    kind = attach_type & O_ACCMODE
    if kind == O_ACCMODE:
        raise EngineError(EINVAL, "the attach type is none of ro, wo, rw")
    return kind, ATTACH_RIGHTS[kind]


def require_shareable(sharing: str, count: int, held: int | None, wanted: int, what: str) -> None:
    """EBUSY when one more attachment of type `wanted` does not go with the `count` there are (many readers xor one writer).

    `held` is the type of any one of them: of an exclusive object all are readers, or there is one, a writer (I10).
    """
    if count >= SHARES_MAX:
        raise EngineError(EBUSY, f"{what} has {SHARES_MAX} attachments")
    if sharing != EXCLUSIVE or held is None:
        return
    if wanted != O_RDONLY:
        raise EngineError(EBUSY, f"{what} is attached: a writer must be alone")
    if held != O_RDONLY:
        raise EngineError(EBUSY, f"{what} has a writer")


def require_owner(owner: Owner, cred: Credentials, what: str, deed: str) -> None:
    """EPERM for everybody but the owner and root."""
    if not cred.is_root and cred.uid != owner.uid:
        raise EngineError(EPERM, f"{what}: only its owner and root may {deed}")


def change_owner(
    owner: Owner,
    journal: Journal,
    cred: Credentials,
    what: str,
    mode: int | None,
    uid: int | None,
    gid: int | None,
) -> None:
    """setattr: the owner or root may change the mode, only root the uid and gid (EPERM). EINVAL: not a mode or id."""
    new_mode = owner.mode if mode is None else require_mode(mode)
    new_uid = owner.uid if uid is None else uid
    new_gid = owner.gid if gid is None else gid
    if not 0 <= new_uid <= ID_MAX or not 0 <= new_gid <= ID_MAX:
        raise EngineError(EINVAL, f"uid {new_uid}, gid {new_gid}: not 0 to {ID_MAX}")
    require_owner(owner, cred, what, "change attributes")
    if not cred.is_root and (new_uid, new_gid) != (owner.uid, owner.gid):
        raise EngineError(EPERM, f"{what}: only root may change owner and group")
    before = (owner.uid, owner.gid, owner.mode)

    def put_back() -> None:
        owner.uid, owner.gid, owner.mode = before

    owner.uid, owner.gid, owner.mode = new_uid, new_gid, new_mode
    journal.undo(put_back)
