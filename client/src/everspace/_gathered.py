"""What batches are made of, without I/O: calls are gathered, sent as one, and their results handed to the handles."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from everspace._calls import memory
from everspace._calls.call import Call, TaskState, ThreadState
from everspace._session import Session
from everspace.errors import ProtocolError, VasError, problem_error

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


class Gathered:
    """Calls that wait to be sent together, each with its handle."""

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
        path = "/tasks/{pid}/batch"
        return Call(
            "batch", "POST", path, _results, body=body, query=query, wait=self._wait(), tid_in="query"
        )

    def _wait(self) -> float | None:
        """How long the service may wait in all; an atomic batch never waits."""
        waits = [] if self._atomic else [call.wait for call, _, _ in self._entries]
        return None if None in waits else sum(wait for wait in waits if wait is not None)

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


def _refused(result: dict[str, Any]) -> Any:
    raise problem_error(0, result)


def _results(value: Any) -> list[Any]:
    results = value["results"]
    if not isinstance(results, list):
        raise ProtocolError("the answer to a batch has no list of results")
    return results
