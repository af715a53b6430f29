"""The calls on heaps inside segments, for their routes and for batches alike."""

from collections.abc import Mapping
from typing import Any, Final

from app.calls import answers, arguments
from app.calls.answers import plain
from app.calls.call import Call, Json
from app.calls.clones import OfSegment
from app.calls.fields import WordAddress
from everspace.wire import hex_address


class Free(arguments.OfThread):
    """vas_free."""

    addr: WordAddress


def _usage(found: Any) -> Json:
    return plain(answers.Heap.of(found))


HEAP_CALLS: Final[Mapping[str, Call]] = {
    "vas_malloc": Call(
        arguments.Malloc,
        lambda m, f, a: m.vas_malloc(f.cred, f.pid, f.thread(a), a.size, a.sid),
        hex_address,
    ),
    "vas_free": Call(Free, lambda m, f, a: m.vas_free(f.cred, f.pid, f.thread(a), a.addr)),
    "heap_usage": Call(OfSegment, lambda m, f, a: m.heap_usage(f.cred, a.sid), _usage),
}
