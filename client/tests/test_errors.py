"""One table of errors: errno, HTTP status and class, total in both directions."""

import errno
import pickle

import pytest

import everspace
from everspace import errors, wire
from everspace.errors import VasError

PYTHON_BASES = {
    "EACCES": PermissionError,
    "EAGAIN": BlockingIOError,
    "EEXIST": FileExistsError,
    "ENOENT": FileNotFoundError,
    "EPERM": PermissionError,
    "ESRCH": ProcessLookupError,
    "ETIMEDOUT": TimeoutError,
}


def test_every_errno_of_the_wire_has_a_class_and_the_reverse() -> None:
    assert set(errors.ERRNO_CLASSES) == set(wire.ERRNO_STATUS)
    classes = list(errors.ERRNO_CLASSES.values())
    assert len(set(classes)) == len(classes)
    leaves = {cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, VasError)}
    without = {
        errors.VasError,
        errors.AuthenticationError,
        errors.ServiceUnavailable,
        errors.UnexpectedAnswerError,
        errors.TransportError,
        errors.CannotConnectError,
        errors.ConnectionLostError,
        errors.TransportTimeoutError,
        errors.ProtocolError,
    }
    assert leaves == set(classes) | without


def test_the_tree_at_the_top_of_the_module_names_every_class() -> None:
    tree = errors.__doc__ or ""
    for name, cls in vars(errors).items():
        if isinstance(cls, type) and issubclass(cls, VasError):
            assert name in tree
    for name, cls in errors.ERRNO_CLASSES.items():
        line = next(line for line in tree.splitlines() if cls.__name__ in line)
        assert name in line.split()
        assert (PYTHON_BASES[name].__name__ in line) if name in PYTHON_BASES else line.split()[-1] == name


@pytest.mark.parametrize("name", wire.ERRNO_STATUS)
def test_a_problem_becomes_the_error_of_its_errno(name: str) -> None:
    status = wire.ERRNO_STATUS[name]
    problem = {
        "status": status,
        "title": name,
        "detail": "because",
        "errno": name,
        "index": 3,
        "address": "0x1000",
    }
    error = errors.problem_error(status, problem, request_id="r-1")
    assert type(error) is errors.ERRNO_CLASSES[name]
    assert isinstance(error, VasError)
    assert isinstance(error, OSError)
    assert isinstance(error, PYTHON_BASES.get(name, OSError))
    assert error.errno == getattr(errno, name)
    assert (error.errno_name, error.detail, str(error)) == (name, "because", f"{name}: because")
    assert (error.status, error.request_id, error.index) == (status, "r-1", 3)
    assert error.problem == problem
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.errno, str(again), again.problem) == (
        type(error),
        error.errno,
        str(error),
        problem,
    )


def test_a_fault_names_its_address() -> None:
    error = errors.problem_error(422, {"errno": "EFAULT", "detail": "no", "address": "0x100000001000"})
    assert isinstance(error, everspace.BadAddressError)
    assert error.address == 0x100000001000
    assert everspace.BadAddressError(14, "no").address is None


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (401, errors.AuthenticationError),
        (503, errors.ServiceUnavailable),
        (404, errors.UnexpectedAnswerError),
        (405, errors.UnexpectedAnswerError),
        (416, errors.UnexpectedAnswerError),
        (500, errors.UnexpectedAnswerError),
    ],
)
def test_refusals_without_errno_have_classes_of_their_own(status: int, cls: type[VasError]) -> None:
    error = errors.problem_error(status, {"title": "Sorry"})
    assert type(error) is cls
    assert error.errno is None
    assert (error.errno_name, str(error)) == ("", "Sorry")
    assert "503" in str(errors.problem_error(503, {}))


def test_an_errno_of_a_newer_service_is_still_a_vas_error() -> None:
    known = errors.problem_error(409, {"errno": "ENOLCK", "detail": "later"})
    assert (type(known), known.errno) == (VasError, errno.ENOLCK)
    unknown = errors.problem_error(409, {"errno": "EWHATEVER", "detail": "later"})
    assert (type(unknown), unknown.errno, str(unknown)) == (VasError, None, "EWHATEVER: later")


def test_transport_errors_are_connection_errors() -> None:
    assert issubclass(errors.TransportError, ConnectionError)
    assert issubclass(errors.TransportTimeoutError, TimeoutError)
    assert str(errors.CannotConnectError("nobody there")) == "nobody there"


def test_any_refusal_tells_when_it_may_go_better() -> None:
    assert errors.VasError("x").retry_after is None
    for problem in ({"errno": "EAGAIN"}, {"errno": "EDQUOT"}, {}):
        assert errors.problem_error(429, problem, retry_after=7.0).retry_after == 7.0


def test_what_the_service_says_besides_is_there_by_name() -> None:
    told = {"errno": "EDQUOT", "resource": "spaces", "quota": 4, "used": 3, "wanted": 2}
    quota = errors.problem_error(429, told)
    assert isinstance(quota, errors.QuotaExceededError)
    assert (quota.resource, quota.quota, quota.used, quota.wanted) == ("spaces", 4, 3, 2)
    stale = errors.problem_error(412, {"errno": "ESTALE", "etag": '"t"'})
    assert isinstance(stale, errors.StaleError)
    assert stale.etag == '"t"'
    untold = errors.QuotaExceededError("x")
    assert (untold.resource, untold.quota, untold.used, untold.wanted) == ("", None, None, None)
    assert errors.StaleError("x").etag is None
