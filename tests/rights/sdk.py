"""The SDK over a service in a thread of this process, without sockets; and a row for every public call of it."""

import asyncio
import inspect
import io
import threading
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, TypeVar

import everspace
from everspace._session import Settings
from everspace.batch import Batch
from everspace.client import Client
from everspace.segments import Segment, Segments
from everspace.spaces import Attached, Inside, Space, Spaces
from everspace.task import Task, Thread
from everspace.testing import ToldStream
from everspace.transport import Request, Response
from tests.app.support import BASE, PAGE, Site
from tests.rights.asking import ask
from tests.rights.needs import (
    ACCOUNT,
    KNOWN,
    OWN_TASK,
    OWNS,
    READS,
    READS_AND_WRITES,
    ROOT_ONLY,
    STRANGERS,
    WRITES,
    Caller,
    Need,
)
from tests.rights.rows import NEW
from tests.rights.world import TEXT, Callers, World, callers_of

T = TypeVar("T")
CLASSES = (Client, Task, Thread, Spaces, Space, Segments, Segment, Attached, Inside, Batch)


class Local:
    """A `Transport` that asks a service of another thread's event loop."""

    def __init__(self, scene: "Scene", site: Site) -> None:
        self._scene = scene
        self._site = site

    def send(self, request: Request) -> Response:
        """The whole answer, and its bytes where they are wanted."""
        headers = {name.lower(): value for name, value in request.headers}
        token = headers.pop("authorization", "").removeprefix("Bearer ") or None
        body = bytes(request.body) if request.body else None
        answer = self._scene.wait(ask(self._site, token, request.method, request.target, body, headers))
        if answer.status in (200, 206) and request.into is not None and len(request.into) == len(answer.body):
            request.into[:] = answer.body
            return Response(answer.status, answer.headers, b"", len(answer.body))
        if answer.status == 200 and request.sink is not None:
            request.sink(memoryview(answer.body))
            return Response(answer.status, answer.headers, b"", len(answer.body))
        return Response(answer.status, answer.headers, answer.body)

    def stream(self, request: Request) -> ToldStream:
        """What there is of the stream."""
        return ToldStream(self.send(request))

    def close(self) -> None:
        """Nothing to do."""


class Scene:
    """A service and a client of it for each caller."""

    def __init__(self, data_dir: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="service")
        self._callers = callers_of(data_dir)
        self.clients: dict[Caller, Client] = {}
        self.mine: dict[Caller, Task] = {}

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What comes of some work in the service's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def __enter__(self) -> Self:
        self._thread.start()
        self.callers: Callers = self.wait(self._callers.__aenter__())
        transport = Local(self, self.callers.site)
        for caller in (*KNOWN, *STRANGERS):
            settings = Settings(self.callers.tokens[caller])
            self.clients[caller] = Client(transport, settings)
        for caller in KNOWN:
            self.mine[caller] = self.clients[caller].task(self.callers.mine[caller])
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.clients.values():
            client.close()
        self.wait(self._callers.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextmanager
    def world(self, mode: int) -> Iterator[World]:
        """Things of the owner's."""
        world = self.wait(World(self.callers, mode).make())
        yield world
        self.wait(world.end())


@dataclass(frozen=True)
class Row:
    """A call: the class and the method, what it needs, and its arguments; `on` names what the object is of."""

    of: type
    method: str
    needs: tuple[Need, ...]
    args: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    on: str = ""

    @property
    def name(self) -> str:
        """As the surface has it."""
        return f"{self.of.__name__}.{self.method}"

    def __str__(self) -> str:
        return f"{self.name}({','.join([self.on, *self.named] if self.on else self.named)})"

    def receiver(self, scene: Scene, world: World, caller: Caller) -> Any:
        """The object that is called: the owner's as this caller has it, a task of one's own for calls on things."""
        names, client, known = world.names, scene.clients[caller], scene.clients[Caller.ROOT]
        if self.of in (Task, Thread):
            if self.on == "mine":
                return scene.mine[caller if caller in KNOWN else Caller.OTHER]
            task = Task(client, known.task(names[self.on])._task)
            return task.of_thread(names["tid"]) if self.of is Thread else task
        if self.of is Space:
            return Space(client, known.spaces.get(names[self.on]).seen)
        if self.of is Segment:
            return Segment(client, known.segments.get(names[self.on]).seen)
        return {Client: client, Spaces: client.spaces, Segments: client.segments}[self.of]

    def call(self, scene: Scene, world: World, caller: Caller) -> Any:
        """What it gives; an iterator's things, all of them."""
        args = [self._value(arg, world) for arg in self.args]
        named = {name: self._value(arg, world) for name, arg in self.named.items()}
        result = getattr(self.receiver(scene, world, caller), self.method)(*args, **named)
        if isinstance(result, everspace.Events):
            result.close()
            return result
        return list(result) if inspect.isgenerator(result) else result

    @staticmethod
    def _value(arg: Any, world: World) -> Any:
        if arg in (io.BytesIO, bytearray):
            return io.BytesIO() if arg is io.BytesIO else bytearray(8)
        value = world.body(arg)
        return int(value, 16) if isinstance(value, str) and value.startswith("0x") else value


def task(method: str, *args: Any, on: str = "pid", **named: Any) -> tuple[Row, ...]:
    """A call of the owner's task, and of its thread if it has it."""
    kinds = [kind for kind in (Task, Thread) if hasattr(kind, method) and (kind is Task or on == "pid")]
    return tuple(Row(kind, method, (OWN_TASK,), args, named, on) for kind in kinds)


def mine(method: str, *needs: Need, args: tuple[Any, ...] = (), **named: Any) -> tuple[Row, ...]:
    """A call of one's own task on the owner's things."""
    return (Row(Task, method, needs, args, named, "mine"),)


def space(
    method: str, *needs: Need, args: tuple[Any, ...] = (), on: str = "vid", **named: Any
) -> tuple[Row, ...]:
    return (Row(Space, method, needs, args, named, on),)


def segment(
    method: str, *needs: Need, args: tuple[Any, ...] = (), on: str = "sid", **named: Any
) -> tuple[Row, ...]:
    return (Row(Segment, method, needs, args, named, on),)


def client(of: type, method: str, *needs: Need, args: tuple[Any, ...] = (), **named: Any) -> tuple[Row, ...]:
    return (Row(of, method, needs, args, named),)


RANGE = (BASE, PAGE)
MAPPING = (NEW, PAGE, 3, 0x32)
SEGMENT = ("{new}", NEW, NEW + PAGE, 0o600)

ROWS: tuple[Row, ...] = sum(
    (
        client(Client, "spawn", ACCOUNT), client(Client, "task", ACCOUNT, args=("{pid}",)),
        client(Client, "task_info", ACCOUNT, args=("{pid}",)), client(Client, "tasks", ACCOUNT),
        client(Client, "events", ACCOUNT), client(Client, "account", ACCOUNT), client(Client, "audit", ACCOUNT),
        client(Client, "audit", ROOT_ONLY, args=(0,)),
        client(Spaces, "create", ACCOUNT, args=("{new}",)), client(Spaces, "get", ACCOUNT, args=("{vid}",)),
        client(Spaces, "find", ACCOUNT, args=("{space_name}",)), client(Spaces, "list", ACCOUNT),
        client(Segments, "create", ACCOUNT, args=SEGMENT), client(Segments, "get", ACCOUNT, args=("{sid}",)),
        client(Segments, "find", ACCOUNT, args=("{segment_name}",)), client(Segments, "list", ACCOUNT),
        space("attr", ACCOUNT), space("chmod", OWNS, args=(0o666,)), space("chown", ROOT_ONLY, uid=1003),
        space("chown", ROOT_ONLY, gid=1003), space("set_sharing", OWNS, args=("lockable",), on="loose"),
        space("rename", OWNS, args=("{new}",)), space("set_lifetime", OWNS, args=("transient",)),
        space("clone", READS, args=("{new}",)), space("snapshot", READS, args=("{new}",)),
        space("reset", OWNS, on="twin"), space("lineage", ACCOUNT), space("usage", ACCOUNT),
        space("diff", READS, args=("{twin}",)), space("roots", READS), space("set_root", WRITES, args=("first", BASE)),
        space("get_root", READS, args=("first",)), space("root_etag", READS, args=("first",)),
        space("delete_root", WRITES, args=("first",)),
        space("mmap", WRITES, args=MAPPING), space("munmap", WRITES, args=RANGE), space("mprotect", WRITES, args=(*RANGE, 1)),
        space("regions", READS), space("segments", ACCOUNT), space("locks", ACCOUNT), space("core", READS, args=(io.BytesIO,)),
        space("delete", WRITES, on="loose"),
        segment("attr", ACCOUNT), segment("chmod", OWNS, args=(0o666,)), segment("chown", ROOT_ONLY, uid=1003),
        segment("chown", ROOT_ONLY, gid=1003), segment("set_sharing", OWNS, args=("lockable",), on="free"),
        segment("rename", OWNS, args=("{new}",)), segment("set_lifetime", OWNS, args=("transient",)),
        segment("clone", READS, args=("{new}",)), segment("snapshot", READS, args=("{new}",)),
        segment("reset", OWNS, on="double"), segment("lineage", ACCOUNT), segment("usage", ACCOUNT),
        segment("diff", READS, args=("{double}",)), segment("heap", READS),
        segment("attach", READS_AND_WRITES, WRITES, args=("{loose}",), on="free"),
        segment("attach", READS, WRITES, args=("{loose}", "ro"), on="free"),
        segment("detach", WRITES, args=("{loose}",), on="within"), segment("pread", READS, args=(0, 4)),
        segment("preadinto", READS, args=(0, bytearray)), segment("pwrite", WRITES, args=(0, b"evil")),
        segment("etag", READS), segment("delete", WRITES, on="free"),
        mine("vas_create", ACCOUNT, args=("{new}", 0o600)), mine("vas_delete", WRITES, args=("{loose}",)),
        mine("vas_find", ACCOUNT, args=("{space_name}",)), mine("vas_attach", READS, args=(0, "{loose}", "ro")),
        mine("vas_attach", WRITES, args=(0, "{loose}", "wo")), mine("vas_attach", READS_AND_WRITES, args=(0, "{loose}", "rw")),
        mine("vas_attach", OWN_TASK, READS, args=("{plain}", "{loose}", "ro")),
        mine("vas_detach", OWN_TASK, args=("{holder}", "{vid}")), mine("vas_getattr", ACCOUNT, args=("{vid}",)),
        mine("vas_setattr", OWNS, args=("{vid}",), mode=0o666), mine("vas_setattr", ROOT_ONLY, args=("{vid}",), uid=1003),
        mine("vas_seg_create", ACCOUNT, args=SEGMENT), mine("vas_seg_delete", WRITES, args=("{free}",)),
        mine("vas_seg_find", ACCOUNT, args=("{segment_name}",)),
        mine("vas_seg_attach", READS_AND_WRITES, WRITES, args=("{loose}", "{free}", "rw")),
        mine("vas_seg_detach", WRITES, args=("{loose}", "{within}")), mine("vas_seg_getattr", ACCOUNT, args=("{sid}",)),
        mine("vas_seg_setattr", OWNS, args=("{sid}",), mode=0o666),
        mine("vas_seg_setattr", ROOT_ONLY, args=("{sid}",), gid=1003),
        mine("vas_clone", READS, args=("{vid}", "{new}")), mine("vas_seg_clone", READS, args=("{sid}", "{new}")),
        mine("vas_snapshot", READS, args=("{vid}", "{new}")), mine("vas_seg_snapshot", READS, args=("{sid}", "{new}")),
        mine("vas_reset", OWNS, args=("{twin}",)), mine("vas_seg_reset", OWNS, args=("{double}",)),
        mine("vas_lineage", ACCOUNT, args=("{vid}",)), mine("vas_seg_lineage", ACCOUNT, args=("{sid}",)),
        mine("vas_exec", READS_AND_WRITES, args=("{image}",)), mine("vas_mmap", WRITES, args=("{vid}", *MAPPING)),
        mine("vas_munmap", WRITES, args=("{vid}", *RANGE)), mine("vas_mprotect", WRITES, args=("{vid}", *RANGE, 1)),
        mine("heap_usage", READS, args=("{sid}",)),
        task("read", BASE, 8), task("readinto", BASE, bytearray), task("write", BASE, b"evil"), task("mmap", *MAPPING),
        task("munmap", *RANGE), task("mprotect", *RANGE, 1), task("brk"), task("mremap", BASE, PAGE, PAGE),
        task("madvise", *RANGE, 4), task("mincore", *RANGE), task("mlock", *RANGE), task("munlock", *RANGE), task("msync"),
        task("maps"), task("smaps"), task("core", io.BytesIO), task("prlimit", "stack"), task("thread"), task("fork"),
        task("exec"), task("exit"), task("heartbeat"), task("vas_switch", 0), task("active_vas"),
        task("vas_fork", "{new}"), task("vas_exec", "{image}"), task("vas_malloc", 64, "{sid}"), task("vas_free", "{addr}"),
        task("vas_set_root", "first", BASE), task("vas_get_root", "first"), task("mmview", 2, on="viewer"),
        task("mmview_create", on="viewer"), task("mmview_migrate", -1, on="viewer"), task("mmview_delete", 1, on="viewer"),
        task("mmview_unshare", TEXT, PAGE, on="plain"), task("new_as", on="plain"), task("switch_as", 0, on="slotted"),
        (Row(Task, "info", (ACCOUNT,), (), {}, "pid"),),
    ),
    (),
)  # fmt: skip

WITHOUT_RIGHTS = frozenset(
    {"Client.close", "Client.perform", "Client.adopt", "Client.version", "Client.ready", "Task.of_thread", "Thread.of_thread",
     "Task.batch", "Thread.batch"}
)  # fmt: skip
"""Ask nothing by themselves, or need no token."""
OF_OTHERS = {
    "Space.attach": "vas_attach",
    "Attached.switch": "vas_switch",
    "Attached.detach": "vas_detach",
    "Inside.leave": "vas_switch",
}
"""Are the calls of a task that they are given."""
