"""What batches are made of, without I/O: calls are gathered, sent as one, and their results handed to the handles."""

import json
from collections.abc import Callable
from typing import Any, Generic, SupportsIndex, TypeVar

from everspace._calls import memory
from everspace._calls.call import Buffer, Call, TaskState, ThreadState, a_durability, integer, readable
from everspace._session import Session
from everspace.errors import ProtocolError, VasError, problem_error
from everspace.transport import Response
from everspace.wire import frames

T = TypeVar("T")
S = TypeVar("S")
Result = tuple[int, Any]
"""The kind of a frame (everspace.wire.frames), and the bytes or the JSON in it."""
_LOAD = memory.read(0, 0)
_STORE = memory.write(0, b"")
"""How the results of loads and stores are read if they come as JSON; what was asked is in the frames."""


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


class Gathered:
    """Calls that wait to be sent together, each with its handle."""

    def __init__(self, task: TaskState, thread: ThreadState, atomic: bool) -> None:
        self._task = task
        self._thread = thread
        self._atomic = atomic
        self._closed = False
        self._entries: list[tuple[Call[Any], Callable[[Any], Any] | None, Handle[Any]]] = []
        self._frames: list[bytes | memoryview] = []

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, addr: SupportsIndex, length: SupportsIndex) -> Handle[bytes]:
        """See Task."""
        try:
            frame = frames.load(integer(addr), integer(length))
        except frames.FramesError:  # numbers that the service is to judge
            return self._add(memory.read(addr, length))
        return self._enter(_LOAD, None, Handle("read"), frame)

    def write(self, addr: SupportsIndex, data: Buffer, durability: str = "commit") -> Handle[int]:
        """See Task. The bytes are taken when the batch closes."""
        view, relaxed = readable(data), a_durability(durability) == "relaxed"
        try:
            head = frames.store_head(integer(addr), len(view), relaxed=relaxed)
        except frames.FramesError:
            return self._add(memory.write(addr, data, durability))
        return self._enter(_STORE, None, Handle("write"), head, view)

    def _add(self, call: Call[T]) -> Handle[T]:
        return self._add_made(call, None)

    def _add_made(self, call: Call[S], make: Callable[[S], T] | None) -> Handle[T]:
        args = call.args or {}
        if call.payload is not None:
            args = {**args, "data": memory.to_base64(call.payload)}
        return self._enter(call, make, Handle(call.name), frames.call(call.name, args))

    def _enter(
        self,
        call: Call[Any],
        make: Callable[[Any], Any] | None,
        handle: Handle[T],
        *pieces: bytes | memoryview,
    ) -> Handle[T]:
        if self._closed:
            raise RuntimeError("the batch has been sent")
        self._entries.append((call, make, handle))
        self._frames += pieces
        return handle

    def _request(self) -> Call[list[Result]]:
        """All of them as one call."""
        return Call(
            "batch",
            "POST",
            "/tasks/{pid}/batch",
            _told,
            query="atomic=true" if self._atomic else "",
            headers=(("Content-Type", frames.MEDIA_FRAMES),),
            payload=frames.document(len(self._entries), self._frames),
            answer=_results,
            wait=self._wait(),
            tid_in="query",
        )

    def _wait(self) -> float | None:
        """How long the service may wait in all; an atomic batch never waits."""
        waits = [] if self._atomic else [call.wait for call, _, _ in self._entries]
        return None if None in waits else sum(wait for wait in waits if wait is not None)

    def _settle(self, session: Session, results: list[Result]) -> None:
        """Give every handle its result or error."""
        if len(results) != len(self._entries):
            error = ProtocolError(f"the service answered {len(results)} of {len(self._entries)} calls")
            self._abandon(error)
            raise error
        for (call, make, handle), (kind, value) in zip(self._entries, results, strict=True):
            if kind == frames.REFUSAL:
                handle.fail(problem_error(0, value))
            elif kind == frames.BYTES and call is _LOAD:
                handle.resolve(value)
            else:
                self._settle_one(session, call, make, handle, value)

    def _settle_one(
        self,
        session: Session,
        call: Call[Any],
        make: Callable[[Any], Any] | None,
        handle: Handle[Any],
        told: Any,
    ) -> None:
        try:
            value = call.parse(told)
            if call.effect is not None or isinstance(value, TaskState):
                session.note(call, value, self._task.instance, self._task, self._thread)
            handle.resolve(value if make is None else make(value))
        except VasError as refused:
            handle.fail(refused)
        except (KeyError, TypeError, ValueError) as cause:
            broken = ProtocolError(f"the result of {call.name} has another shape than expected: {cause!r}")
            broken.__cause__ = cause
            handle.fail(broken)

    def _abandon(self, error: BaseException) -> None:
        """No call was done, or none can be known to have been."""
        self._closed = True
        for _, _, handle in self._entries:
            handle.fail(error)


def _results(response: Response) -> list[Result]:
    """The results out of frames, or out of JSON, as a stand-in for the service may answer."""
    if response.headers.get("content-type", "").partition(";")[0].strip() != frames.MEDIA_FRAMES:
        return _told(response.json())
    body, results = response.body, []
    for kind, start, end in frames.frames_of(body):
        found = body[start:end]
        told = found if kind == frames.BYTES else json.loads(found)
        if kind > frames.REFUSAL or (kind == frames.REFUSAL and not isinstance(told, dict)):
            raise ProtocolError(f"the answer to a batch has a frame of kind {kind} that is none")
        results.append((kind, told))
    return results


def _told(answer: Any) -> list[Result]:
    """The same out of JSON."""
    results = answer["results"]
    if not isinstance(results, list):
        raise ProtocolError("the answer to a batch has no list of results")
    return [
        (frames.VALUE, result["value"]) if "value" in result else (frames.REFUSAL, result)
        for result in results
    ]
