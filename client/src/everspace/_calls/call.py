"""The form of a call, and the state of a task that calls need and change."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, SupportsIndex, TypeVar

from everspace.errors import ProtocolError
from everspace.transport import Response, Sink
from everspace.wire import DURABILITY_NAMES, TYPE_NAMES, hex_address, parse_address, parse_type

T = TypeVar("T")
Buffer = bytes | bytearray | memoryview
"""What can be written; anything else with the buffer protocol (array, numpy) works too."""


@dataclass(slots=True, eq=False)
class ThreadState:
    """A thread of ours: its present tid and the space that it is in."""

    tid: int
    active: int = 0


@dataclass(slots=True, eq=False)
class TaskState:
    """A task of ours: what calls need to name it, and what must be done again if the service restarts.

    `instance` is the start of the service under which it was spawned; `renewed_at` is when its lease was last
    renewed (clock of the client, seconds); the first of `threads` is the main thread.
    """

    pid: int
    name: str | None
    lease_s: float
    wanted_name: str | None = None  # what it was spawned with; the service names the nameless
    instance: str = ""
    renewed_at: float = 0.0
    ended: bool = False
    ours: bool = True  # made by this client, which may make it again
    attachments: dict[int, tuple[int | str, bool]] = field(default_factory=dict)
    threads: list[ThreadState] = field(default_factory=list)

    def begin_anew(self) -> None:
        """After exec: one thread, in the original space, and nothing attached."""
        self.attachments.clear()
        del self.threads[1:]
        self.threads[0].active = 0

    def means(self, pid: int) -> bool:
        """Whether a call's `pid` is this task (0: the caller)."""
        return pid in (0, self.pid)


Effect = Callable[[TaskState, ThreadState, Any], None]


@dataclass(slots=True, eq=False)
class Call(Generic[T]):
    """One call, ready to be sent alone or in a batch. Nobody changes it; being frozen would make it 6 µs dearer.

    `path` is below /v1; {pid} and {tid} in it are filled in when it is sent, since a restart changes them.
    `parse` reads the JSON of the answer, or the `value` of a batch's result; `answer` overrides it for a response
    that is not JSON. `wait` is how long the service itself may wait, in seconds (None: without end).
    `repeatable` says that doing it twice equals doing it once, in state and in answer; `keyed`, that the service sees
    to that, by a key which is the same each time it is asked. `effect` notes what a success means for the task. `tid_in` is where the thread is named: "body", "query", or "" (in the path or nowhere).
    """

    name: str
    method: str
    path: str
    parse: Callable[[Any], T]
    args: Mapping[str, Any] | None = None
    body: Mapping[str, Any] | None = None
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    payload: bytes | memoryview | None = None
    into: memoryview | None = None
    sink: Sink | None = None
    answer: Callable[[Response], T] | None = None
    repeatable: bool = False
    keyed: bool = False
    wait: float | None = 0.0
    tid_in: str = ""
    effect: Effect | None = None

    @property
    def of_task(self) -> bool:
        """Whether it acts on the caller's task, so that a restart of the service takes its ground away."""
        return "{pid}" in self.path


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A piece of a list; `next` is the cursor of the following piece, or None at the end."""

    items: list[T]
    next: str | None


def integer(value: SupportsIndex) -> int:
    """An int, also from numpy and the like; TypeError for floats and strings."""
    return value if type(value) is int else int(operator.index(value))


def address(value: SupportsIndex) -> str | int:
    """An address as the wire spells it; a negative one is a plain number, for the service to judge."""
    number = integer(value)
    return number if number < 0 else hex_address(number)


def text(what: str, value: str) -> str:
    """A str; TypeError else."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, not {type(value).__name__}")
    return value


def access_type(value: int | str) -> int | str:
    """An attach type for JSON: a name, or a number that the service is to judge. ValueError for an unknown name."""
    number = parse_type(value) if isinstance(value, str) else integer(value)
    return TYPE_NAMES.get(number, number)


def a_durability(value: str) -> str:
    """ "commit" or "relaxed"; ValueError else."""
    if value not in DURABILITY_NAMES:
        raise ValueError(f"durability is commit or relaxed, not {value!r}")
    return value


def readable(data: Buffer) -> bytes | memoryview:
    """The bytes of any contiguous buffer, not copied; TypeError for anything else."""
    if isinstance(data, bytes):
        return data
    view = memoryview(data)
    return view.cast("B") if view.nbytes else b""


def writable(buffer: Buffer) -> memoryview:
    """A buffer to read into, not copied; TypeError if it is read-only or has holes."""
    view = memoryview(buffer)
    if view.readonly:
        raise TypeError("the buffer is read-only")
    return view.cast("B") if view.nbytes else memoryview(bytearray())


def if_still(if_match: str | None) -> tuple[tuple[str, str], ...]:
    """The header that makes a call conditional; ValueError for what is no tag."""
    if if_match is None:
        return ()
    if not (text("if_match", if_match).isascii() and if_match.isprintable() and if_match):
        raise ValueError(f"not an ETag: {if_match!r:.60}")
    return (("If-Match", if_match),)


def lasting(lifetime: str) -> dict[str, str]:
    """The member for a lifetime that is not the usual one."""
    return {} if text("lifetime", lifetime) == "persistent" else {"lifetime": lifetime}


def given(**members: Any) -> dict[str, Any]:
    """The members that are not None."""
    return {name: value for name, value in members.items() if value is not None}


def no_value(_: Any) -> int:
    """What a call without a result returns."""
    return 0


def no_answer(_: Response) -> int:
    """The same for a response, whatever state it tells."""
    return 0


def an_id(value: Any) -> int:
    """An id: the number itself, or the object that has it."""
    found = value["id"] if isinstance(value, dict) else value
    return plain_int(found)


def plain_int(value: Any) -> int:
    """An int of JSON."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ProtocolError(f"the service answered {value!r:.60} where a number belongs")
    return value


def an_address(value: Any) -> int:
    """An address: itself, or the object {"addr"}."""
    return parse_address(value["addr"] if isinstance(value, dict) else value)


def page_of(read: Callable[[Mapping[str, Any]], T]) -> Callable[[Any], Page[T]]:
    """A reader of lists whose items are read by `read`."""

    def parse(value: Any) -> Page[T]:
        return Page([read(item) for item in value["items"]], value["next"])

    return parse
