"""Core files, which are too large to be held: they go into a sink as they come. Never repeated, for the same reason."""

from typing import SupportsIndex

from everspace._calls.call import Call, integer
from everspace.transport import Response, Sink


def task_core(sink: Sink) -> Call[int]:
    """GET /tasks/{pid}/core; its size in bytes."""
    return _core("task_core", "/tasks/{pid}/core", sink, tid_in="query")


def vas_core(vid: SupportsIndex, sink: Sink) -> Call[int]:
    """GET /vas/{vid}/core; its size in bytes."""
    return _core("vas_core", f"/vas/{integer(vid)}/core", sink)


def _core(name: str, path: str, sink: Sink, tid_in: str = "") -> Call[int]:
    def answer(response: Response) -> int:
        if response.body:  # of unknown length, so that it was collected
            sink(memoryview(response.body))
        return response.filled + len(response.body)

    return Call(name, "GET", path, integer, sink=sink, answer=answer, tid_in=tid_in)
