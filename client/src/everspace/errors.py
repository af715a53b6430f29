"""What a call may raise. Every error is an OSError and a VasError.

VasError (OSError)                      errno, detail, problem, status, request_id, retry_after
│   refused by the service, with the errno of the call's source
├── AccessDeniedError                   EACCES     PermissionError
├── BadAddressError                     EFAULT
├── BusyError                           EBUSY
├── ExistsError                         EEXIST     FileExistsError
├── InvalidArgumentError                EINVAL
├── InputOutputError                    EIO
├── NoEntryError                        ENOENT     FileNotFoundError
├── NoSpaceError                        ENOSPC
├── NoSuchProcessError                  ESRCH      ProcessLookupError
├── NotPermittedError                   EPERM      PermissionError
├── OutOfMemoryError                    ENOMEM
├── QuotaExceededError                  EDQUOT
├── StaleError                          ESTALE
├── TimedOutError                       ETIMEDOUT  TimeoutError
├── TooBigError                         E2BIG
├── TryAgainError                       EAGAIN     BlockingIOError
│   without errno
├── AuthenticationError                 401: no token, or one that is not known
├── ServiceUnavailable                  503: starting, shutting down or recovering; nothing was done
├── UnexpectedAnswerError               any other refusal: no such route, method not allowed, …
└── TransportError                      ConnectionError: no answer was received
    ├── CannotConnectError              nobody listens there; nothing was sent
    ├── ConnectionLostError             the connection ended before the answer; the call may have been done
    ├── TransportTimeoutError           TimeoutError: silence for longer than the timeout; ditto
    └── ProtocolError                   what came back is no answer of this service
"""

import errno as _errno
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final


class VasError(OSError):
    """Base of all. `errno` is the number (None where the source has none), `errno_name` its name ("EBUSY").

    `detail` is one sentence, `problem` the members of the service's problem document (addresses as hex strings),
    `status` the HTTP status (0 where there was no answer), `request_id` what the service logged the request under, if it
    got it, `retry_after` the seconds after which the service says that it may go better, else None, and `index` the
    place of the failing call in a batch, else None.
    """

    status: int = 0
    request_id: str = ""
    retry_after: float | None = None
    problem: Mapping[str, Any] = MappingProxyType({})

    @property
    def detail(self) -> str:
        """One sentence, without the errno."""
        return self.strerror or (str(self.args[-1]) if self.args else "")

    @property
    def errno_name(self) -> str:
        """The errno by its name, or "" where there is none."""
        return "" if self.errno is None else _errno.errorcode.get(self.errno, "")

    @property
    def index(self) -> int | None:
        """Which call of an atomic batch failed, counted from 0."""
        found = self.problem.get("index")
        return found if isinstance(found, int) else None

    def __str__(self) -> str:
        name = self.errno_name
        return f"{name}: {self.detail}" if name else self.detail


class AccessDeniedError(VasError, PermissionError):
    """EACCES: the mode's bits do not allow it."""


class BadAddressError(VasError):
    """EFAULT: nothing mapped there, or not with that right, or the range collides with another."""

    @property
    def address(self) -> int | None:
        """The first address that could not be used, if the service named one."""
        found = self.problem.get("address")
        return int(found, 0) if isinstance(found, str) else None


class BusyError(VasError):
    """EBUSY: somebody else holds it."""


class ExistsError(VasError, FileExistsError):
    """EEXIST: the name, attachment or mapping is there already."""


class InputOutputError(VasError):
    """EIO: the store failed; nothing was changed."""


class InvalidArgumentError(VasError):
    """EINVAL: an argument that no state could make right, or an unknown id of a space or segment."""


class NoEntryError(VasError, FileNotFoundError):
    """ENOENT: not attached, or no root of that name."""


class NoSpaceError(VasError):
    """ENOSPC: the disk is full; nothing was changed."""


class NoSuchProcessError(VasError, ProcessLookupError):
    """ESRCH: no such task or thread, or no space or segment of that name."""

    instance: str = ""
    """Which start of the service said so."""


class NotPermittedError(VasError, PermissionError):
    """EPERM: only for the owner, or only for root."""


class OutOfMemoryError(VasError):
    """ENOMEM: no room in the address space, or no memory in the service."""


class QuotaExceededError(VasError):
    """EDQUOT: over the account's quota."""

    @property
    def resource(self) -> str:
        """What there would be too much of: "spaces", "segments", "bytes", "tasks"; "" if the service did not say."""
        return str(self.problem.get("resource") or "")

    @property
    def quota(self) -> int | None:
        """How much of it the account may have."""
        return self.problem.get("quota")

    @property
    def used(self) -> int | None:
        """How much of it the account has."""
        return self.problem.get("used")

    @property
    def wanted(self) -> int | None:
        """How much more of it the call would have taken."""
        return self.problem.get("wanted")


class StaleError(VasError):
    """ESTALE: changed since it was read (If-Match), or there already (create only)."""

    @property
    def etag(self) -> str | None:
        """The tag of what there is, if there is something."""
        found = self.problem.get("etag")
        return found if isinstance(found, str) else None


class TimedOutError(VasError, TimeoutError):
    """ETIMEDOUT: the lock was not had in time."""


class TooBigError(VasError):
    """E2BIG: a body, a read or a batch above the service's limit."""


class TryAgainError(VasError, BlockingIOError):
    """EAGAIN: it would have to wait, and was asked not to."""


class AuthenticationError(VasError):
    """401: no token was sent, or the service does not know it."""


class ServiceUnavailable(VasError):  # noqa: N818 - the name says what is
    """503: the service starts, stops or recovers. Nothing was done."""


class UnexpectedAnswerError(VasError):
    """Another refusal without errno: no such route, a method that is not allowed, a range that cannot be had."""


class TransportError(VasError, ConnectionError):
    """No answer was received."""


class CannotConnectError(TransportError):
    """Nobody accepts connections at the URL. Nothing was sent, so nothing was done."""


class ConnectionLostError(TransportError):
    """The connection ended before the answer was complete: the call may or may not have been done."""


class TransportTimeoutError(TransportError, TimeoutError):
    """Nothing was heard for longer than the timeout: the call may or may not have been done."""


class ProtocolError(TransportError):
    """What came back is not an answer of this service: broken HTTP, a redirect, JSON of another shape."""


ERRNO_CLASSES: Final[Mapping[str, type[VasError]]] = MappingProxyType(
    {
        "E2BIG": TooBigError,
        "EACCES": AccessDeniedError,
        "EAGAIN": TryAgainError,
        "EBUSY": BusyError,
        "EDQUOT": QuotaExceededError,
        "EEXIST": ExistsError,
        "EFAULT": BadAddressError,
        "EINVAL": InvalidArgumentError,
        "EIO": InputOutputError,
        "ENOENT": NoEntryError,
        "ENOMEM": OutOfMemoryError,
        "ENOSPC": NoSpaceError,
        "EPERM": NotPermittedError,
        "ESRCH": NoSuchProcessError,
        "ESTALE": StaleError,
        "ETIMEDOUT": TimedOutError,
    }
)
"""One class for every errno of `wire.ERRNO_STATUS`."""


def errno_error(name: str, detail: str) -> VasError:
    """The error for an errno's name; a name that this version does not know becomes a plain VasError."""
    number = getattr(_errno, name, None) if name.startswith("E") else None
    if not isinstance(number, int):
        return VasError(f"{name}: {detail}")
    return ERRNO_CLASSES.get(name, VasError)(number, detail)


def problem_error(
    status: int,
    problem: Mapping[str, Any],
    *,
    request_id: str = "",
    instance: str = "",
    retry_after: float | None = None,
) -> VasError:
    """The error for a problem document, or for one result of a batch (status 0)."""
    detail = str(
        problem.get("detail") or problem.get("title") or f"the service answered with status {status}"
    )
    name = problem.get("errno")
    if isinstance(name, str):
        error = errno_error(name, detail)
    elif status == 401:
        error = AuthenticationError(detail)
    elif status == 503:
        error = ServiceUnavailable(detail)
    else:
        error = UnexpectedAnswerError(detail)
    error.status, error.request_id, error.problem = status, request_id, problem
    if isinstance(error, NoSuchProcessError):
        error.instance = instance
    error.retry_after = retry_after
    return error


def leaving_failed(error: BaseException | None, failure: VasError) -> None:
    """Cleaning up at the end of a `with` block failed: raised, unless the block ended by an error of its own,
    which then carries it as a note.
    """
    if error is None:
        raise failure
    error.add_note(f"leaving the block failed too: {failure}")
