"""Batches without I/O: calls are gathered, sent as one, and their results handed to the handles."""

from collections.abc import Callable
from typing import Any, Generic, SupportsIndex, TypeVar

from everspace._calls import memory, segments, spaces, tasks
from everspace._calls.call import Buffer, Call, TaskState, ThreadState
from everspace._session import Session
from everspace.constants import MS_SYNC
from everspace.errors import ProtocolError, VasError, problem_error
from everspace.models import SegAttr, VasAttr

T = TypeVar("T")
S = TypeVar("S")


class Handle(Generic[T]):
    """The result of a call in a batch, once the batch has closed."""

    __slots__ = ("_error", "_name", "_value")

    def __init__(self, name: str) -> None:
        self._name = name
        self._value: tuple[T] | tuple[()] = ()
        self._error: BaseException | None = None

    @property
    def done(self) -> bool:
        """Whether there is a result or an error."""
        return bool(self._value) or self._error is not None

    def result(self) -> T:
        """What the call returned, or its error raised. RuntimeError if the batch has not been sent."""
        if self._error is not None:
            raise self._error
        if not self._value:
            raise RuntimeError(f"the batch with this {self._name} has not been sent yet")
        return self._value[0]

    def resolve(self, value: T) -> None:
        """Of the batch: the call's result."""
        self._value = (value,)

    def fail(self, error: BaseException) -> None:
        """Of the batch: the call's error."""
        self._error = error

    def __repr__(self) -> str:
        state = (
            f"raised {self._error!r}"
            if self._error
            else f"returned {self._value[0]!r:.80}"
            if self._value
            else "open"
        )
        return f"<Handle of {self._name}: {state}>"


class BatchCalls:
    """The calls that a batch takes; each returns a handle at once and is done when the batch closes, in order."""

    def __init__(self, task: TaskState, thread: ThreadState, atomic: bool) -> None:
        self._task = task
        self._thread = thread
        self._atomic = atomic
        self._closed = False
        self._entries: list[tuple[Call[Any], Callable[[Any], Any] | None, Handle[Any]]] = []

    def __len__(self) -> int:
        return len(self._entries)

    def _add(self, call: Call[T]) -> Handle[T]:
        return self._enter(call, None)

    def _add_made(self, call: Call[S], make: Callable[[S], T]) -> Handle[T]:
        return self._enter(call, make)

    def _enter(self, call: Call[Any], make: Callable[[Any], T] | None) -> Handle[T]:
        if self._closed:
            raise RuntimeError("the batch has been sent")
        handle: Handle[T] = Handle(call.name)
        self._entries.append((call, make, handle))
        return handle

    def _request(self) -> Call[list[Any]]:
        """All of them as one call."""
        members = []
        for call, _, _ in self._entries:
            args = call.args or {}
            if call.payload is not None:
                args = {**args, "data": memory.to_base64(call.payload)}
            members.append({"call": call.name, "args": args})
        query = "atomic=true" if self._atomic else ""
        body = {"calls": members}
        return Call("batch", "POST", "/tasks/{pid}/batch", _results, body=body, query=query, tid_in="query")

    def _settle(self, session: Session, results: list[Any]) -> None:
        """Give every handle its result or error."""
        if len(results) != len(self._entries):
            error = ProtocolError(f"the service answered {len(results)} of {len(self._entries)} calls")
            self._abandon(error)
            raise error
        for (call, make, handle), result in zip(self._entries, results, strict=True):
            try:
                value = call.parse(result["value"]) if "value" in result else _refused(result)
                if call.effect is not None or isinstance(value, TaskState):
                    session.note(call, value, self._task.instance, self._task, self._thread)
                handle.resolve(value if make is None else make(value))
            except VasError as refused:
                handle.fail(refused)
            except (KeyError, TypeError, ValueError) as cause:
                broken = ProtocolError(
                    f"the result of {call.name} has another shape than expected: {cause!r}"
                )
                broken.__cause__ = cause
                handle.fail(broken)

    def _abandon(self, error: BaseException) -> None:
        """No call was done, or none can be known to have been."""
        self._closed = True
        for _, _, handle in self._entries:
            handle.fail(error)

    def vas_create(self, name: str, mode: int, sharing: str = "exclusive") -> Handle[int]:
        """See Task."""
        return self._add(spaces.vas_create(name, mode, sharing))

    def vas_delete(self, vid: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(spaces.vas_delete(vid))

    def vas_find(self, name: str) -> Handle[int]:
        """See Task."""
        return self._add(spaces.vas_find(name))

    def vas_attach(
        self, pid: SupportsIndex, vid: SupportsIndex, type: int | str, lazy: bool = True
    ) -> Handle[int]:
        """See Task."""
        return self._add(spaces.vas_attach(pid, vid, type, lazy))

    def vas_detach(self, pid: SupportsIndex, vid: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(spaces.vas_detach(pid, vid))

    def vas_switch(self, vid: SupportsIndex, timeout: float | None = None) -> Handle[int]:
        """See Task."""
        return self._add(spaces.vas_switch(vid, timeout))

    def active_vas(self) -> Handle[int]:
        """See Task."""
        return self._add(spaces.active_vas())

    def vas_getattr(self, vid: SupportsIndex) -> Handle[VasAttr]:
        """See Task."""
        return self._add(spaces.vas_getattr(vid))

    def vas_setattr(
        self,
        vid: SupportsIndex,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        sharing: str | None = None,
    ) -> Handle[int]:
        """See Task."""
        return self._add(spaces.vas_setattr(vid, mode, uid, gid, sharing))

    def vas_seg_create(
        self, name: str, start: SupportsIndex, end: SupportsIndex, mode: int, sharing: str = "exclusive"
    ) -> Handle[int]:
        """See Task."""
        return self._add(segments.vas_seg_create(name, start, end, mode, sharing))

    def vas_seg_delete(self, sid: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(segments.vas_seg_delete(sid))

    def vas_seg_find(self, name: str) -> Handle[int]:
        """See Task."""
        return self._add(segments.vas_seg_find(name))

    def vas_seg_attach(self, vid: SupportsIndex, sid: SupportsIndex, type: int | str) -> Handle[int]:
        """See Task."""
        return self._add(segments.vas_seg_attach(vid, sid, type))

    def vas_seg_detach(self, vid: SupportsIndex, sid: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(segments.vas_seg_detach(vid, sid))

    def vas_seg_getattr(self, sid: SupportsIndex) -> Handle[SegAttr]:
        """See Task."""
        return self._add(segments.vas_seg_getattr(sid))

    def vas_seg_setattr(
        self,
        sid: SupportsIndex,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        sharing: str | None = None,
    ) -> Handle[int]:
        """See Task."""
        return self._add(segments.vas_seg_setattr(sid, mode, uid, gid, sharing))

    def read(self, addr: SupportsIndex, length: SupportsIndex) -> Handle[bytes]:
        """See Task."""
        return self._add(memory.read(addr, length))

    def write(self, addr: SupportsIndex, data: Buffer, durability: str = "commit") -> Handle[int]:
        """See Task. The bytes are taken when the batch closes."""
        return self._add(memory.write(addr, data, durability))

    def mmap(self, addr: SupportsIndex, length: SupportsIndex, prot: int, flags: int) -> Handle[int]:
        """See Task."""
        return self._add(memory.mmap(addr, length, prot, flags))

    def munmap(self, addr: SupportsIndex, length: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(memory.munmap(addr, length))

    def mprotect(self, addr: SupportsIndex, length: SupportsIndex, prot: int) -> Handle[int]:
        """See Task."""
        return self._add(memory.mprotect(addr, length, prot))

    def brk(self, addr: SupportsIndex = 0) -> Handle[int]:
        """See Task."""
        return self._add(memory.brk(addr))

    def mremap(
        self,
        old_addr: SupportsIndex,
        old_size: SupportsIndex,
        new_size: SupportsIndex,
        flags: int = 0,
        new_addr: SupportsIndex = 0,
    ) -> Handle[int]:
        """See Task."""
        return self._add(memory.mremap(old_addr, old_size, new_size, flags, new_addr))

    def madvise(self, addr: SupportsIndex, length: SupportsIndex, advice: int) -> Handle[int]:
        """See Task."""
        return self._add(memory.madvise(addr, length, advice))

    def mincore(self, addr: SupportsIndex, length: SupportsIndex) -> Handle[bytes]:
        """See Task."""
        return self._add(memory.mincore(addr, length))

    def mlock(self, addr: SupportsIndex, length: SupportsIndex, flags: int = 0) -> Handle[int]:
        """See Task."""
        return self._add(memory.mlock(addr, length, flags))

    def munlock(self, addr: SupportsIndex, length: SupportsIndex) -> Handle[int]:
        """See Task."""
        return self._add(memory.munlock(addr, length))

    def msync(self, addr: SupportsIndex = 0, length: SupportsIndex = 0, flags: int = MS_SYNC) -> Handle[int]:
        """See Task."""
        return self._add(memory.msync(addr, length, flags))

    def maps(self) -> Handle[str]:
        """See Task."""
        return self._add(memory.maps())

    def prlimit(self, resource: str, value: SupportsIndex | None = None) -> Handle[int]:
        """See Task."""
        return self._add(tasks.prlimit(resource, value))

    def exec(self) -> Handle[int]:
        """See Task."""
        return self._add(tasks.exec_task())


def _refused(result: dict[str, Any]) -> Any:
    raise problem_error(0, result)


def _results(value: Any) -> list[Any]:
    results = value["results"]
    if not isinstance(results, list):
        raise ProtocolError("the answer to a batch has no list of results")
    return results
