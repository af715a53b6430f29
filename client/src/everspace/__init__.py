"""Everspace: persistent first-class virtual address spaces, from Python.

    import everspace

    with everspace.connect() as client, client.spawn() as task:
        vid = task.vas_create("notes", 0o600)
        task.vas_attach(0, vid, everspace.O_RDWR)
        task.vas_switch(vid)

The async half (`aconnect` and the Async classes) is loaded when it is first asked for: asyncio alone would more than
double the time of this import.
"""

from typing import TYPE_CHECKING, Any

from everspace import errors, wire
from everspace._gathered import Handle
from everspace.batch import Batch
from everspace.client import Client, connect
from everspace.constants import (
    MADV_COLD,
    MADV_COLLAPSE,
    MADV_DODUMP,
    MADV_DOFORK,
    MADV_DONTDUMP,
    MADV_DONTFORK,
    MADV_DONTNEED,
    MADV_DONTNEED_LOCKED,
    MADV_FREE,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    MADV_NORMAL,
    MADV_PAGEOUT,
    MADV_POPULATE_READ,
    MADV_POPULATE_WRITE,
    MADV_RANDOM,
    MADV_REMOVE,
    MADV_SEQUENTIAL,
    MADV_VAS_PRIVATE,
    MADV_VAS_SHARED,
    MADV_WILLNEED,
    MAP_ANON,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_STACK,
    MLOCK_ONFAULT,
    MMVIEW_CREATE,
    MMVIEW_CURRENT,
    MMVIEW_DELETE,
    MMVIEW_MIGRATE,
    MMVIEW_SHARE,
    MMVIEW_SWITCH_BASE,
    MMVIEW_UNSHARE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    MS_ASYNC,
    MS_INVALIDATE,
    MS_SYNC,
    O_ACCMODE,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    PROT_EXEC,
    PROT_GROWSDOWN,
    PROT_GROWSUP,
    PROT_NONE,
    PROT_READ,
    PROT_SEM,
    PROT_WRITE,
    RLIM_INFINITY,
)
from everspace.errors import (
    AccessDeniedError,
    AuthenticationError,
    BadAddressError,
    BusyError,
    CannotConnectError,
    ConnectionLostError,
    ExistsError,
    InputOutputError,
    InvalidArgumentError,
    NoEntryError,
    NoSpaceError,
    NoSuchProcessError,
    NotPermittedError,
    OutOfMemoryError,
    ProtocolError,
    QuotaExceededError,
    ServiceUnavailable,
    StaleError,
    TimedOutError,
    TooBigError,
    TransportError,
    TransportTimeoutError,
    TryAgainError,
    UnexpectedAnswerError,
    VasError,
)
from everspace.events import Events
from everspace.models import (
    Attachment,
    Difference,
    Event,
    HeapUsage,
    Lineage,
    Region,
    SegAttr,
    SegmentAttachment,
    TaskInfo,
    ThreadInfo,
    Usage,
    VasAttr,
    Version,
)
from everspace.segments import Segment, Segments
from everspace.spaces import Attached, Inside, Space, Spaces
from everspace.task import Task, Thread
from everspace.transport import (
    AsyncStream,
    AsyncStreamingTransport,
    AsyncTransport,
    Request,
    Response,
    Stream,
    StreamingTransport,
    Transport,
)

if TYPE_CHECKING:
    from everspace.aio.batch import AsyncBatch
    from everspace.aio.client import AsyncClient, aconnect
    from everspace.aio.events import AsyncEvents
    from everspace.aio.segments import AsyncSegment, AsyncSegments
    from everspace.aio.spaces import AsyncAttached, AsyncInside, AsyncSpace, AsyncSpaces
    from everspace.aio.task import AsyncTask, AsyncThread

__version__ = "0.1.0"

__all__ = [
    "MADV_COLD",
    "MADV_COLLAPSE",
    "MADV_DODUMP",
    "MADV_DOFORK",
    "MADV_DONTDUMP",
    "MADV_DONTFORK",
    "MADV_DONTNEED",
    "MADV_DONTNEED_LOCKED",
    "MADV_FREE",
    "MADV_HUGEPAGE",
    "MADV_NOHUGEPAGE",
    "MADV_NORMAL",
    "MADV_PAGEOUT",
    "MADV_POPULATE_READ",
    "MADV_POPULATE_WRITE",
    "MADV_RANDOM",
    "MADV_REMOVE",
    "MADV_SEQUENTIAL",
    "MADV_VAS_PRIVATE",
    "MADV_VAS_SHARED",
    "MADV_WILLNEED",
    "MAP_ANON",
    "MAP_ANONYMOUS",
    "MAP_FIXED",
    "MAP_FIXED_NOREPLACE",
    "MAP_GROWSDOWN",
    "MAP_LOCKED",
    "MAP_NORESERVE",
    "MAP_POPULATE",
    "MAP_PRIVATE",
    "MAP_SHARED",
    "MAP_STACK",
    "MLOCK_ONFAULT",
    "MMVIEW_CREATE",
    "MMVIEW_CURRENT",
    "MMVIEW_DELETE",
    "MMVIEW_MIGRATE",
    "MMVIEW_SHARE",
    "MMVIEW_SWITCH_BASE",
    "MMVIEW_UNSHARE",
    "MREMAP_DONTUNMAP",
    "MREMAP_FIXED",
    "MREMAP_MAYMOVE",
    "MS_ASYNC",
    "MS_INVALIDATE",
    "MS_SYNC",
    "O_ACCMODE",
    "O_RDONLY",
    "O_RDWR",
    "O_WRONLY",
    "PROT_EXEC",
    "PROT_GROWSDOWN",
    "PROT_GROWSUP",
    "PROT_NONE",
    "PROT_READ",
    "PROT_SEM",
    "PROT_WRITE",
    "RLIM_INFINITY",
    "AccessDeniedError",
    "AsyncAttached",
    "AsyncBatch",
    "AsyncClient",
    "AsyncEvents",
    "AsyncInside",
    "AsyncSegment",
    "AsyncSegments",
    "AsyncSpace",
    "AsyncSpaces",
    "AsyncStream",
    "AsyncStreamingTransport",
    "AsyncTask",
    "AsyncThread",
    "AsyncTransport",
    "Attached",
    "Attachment",
    "AuthenticationError",
    "BadAddressError",
    "Batch",
    "BusyError",
    "CannotConnectError",
    "Client",
    "ConnectionLostError",
    "Difference",
    "Event",
    "Events",
    "ExistsError",
    "Handle",
    "HeapUsage",
    "InputOutputError",
    "Inside",
    "InvalidArgumentError",
    "Lineage",
    "NoEntryError",
    "NoSpaceError",
    "NoSuchProcessError",
    "NotPermittedError",
    "OutOfMemoryError",
    "ProtocolError",
    "QuotaExceededError",
    "Region",
    "Request",
    "Response",
    "SegAttr",
    "Segment",
    "SegmentAttachment",
    "Segments",
    "ServiceUnavailable",
    "Space",
    "Spaces",
    "StaleError",
    "Stream",
    "StreamingTransport",
    "Task",
    "TaskInfo",
    "Thread",
    "ThreadInfo",
    "TimedOutError",
    "TooBigError",
    "Transport",
    "TransportError",
    "TransportTimeoutError",
    "TryAgainError",
    "UnexpectedAnswerError",
    "Usage",
    "VasAttr",
    "VasError",
    "Version",
    "aconnect",
    "connect",
    "errors",
    "wire",
]

_ASYNC = {
    "AsyncBatch": "batch",
    "AsyncClient": "client",
    "aconnect": "client",
    "AsyncEvents": "events",
    "AsyncSegment": "segments",
    "AsyncSegments": "segments",
    "AsyncAttached": "spaces",
    "AsyncInside": "spaces",
    "AsyncSpace": "spaces",
    "AsyncSpaces": "spaces",
    "AsyncTask": "task",
    "AsyncThread": "task",
}


def __getattr__(name: str) -> Any:
    if name not in _ASYNC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"everspace.aio.{_ASYNC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
