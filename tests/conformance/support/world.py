"""What one test works with: accounts, their tasks, objects of its own, and a check that a refusal changes nothing."""

import contextlib
import errno
import itertools
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import everspace
from tests.conformance.support.calls import PAGE, HttpTask, TaskCalls
from tests.conformance.support.http import Http, Problem
from tests.conformance.support.rows import Way
from tests.conformance.support.service import Service

BASE = 0x1000_0000_0000
"""Where the tests put their segments: no task uses it by itself."""
GROUP = 500
ACCOUNTS = {
    "root": (0, (0,)),
    "owner": (1001, (GROUP,)),
    "member": (1002, (1002, GROUP)),
    "other": (1003, (1003,)),
}
BUILTIN = {
    "EEXIST": FileExistsError, "EACCES": PermissionError, "EPERM": PermissionError, "ESRCH": ProcessLookupError,
    "ENOENT": FileNotFoundError, "EAGAIN": BlockingIOError, "ETIMEDOUT": TimeoutError,
}  # fmt: skip
VOLATILE = ("counters", "expires_in_s", "lease_left_s")


class Accepted(AssertionError):  # noqa: N818 - says what happened
    """A call was to be refused, and was not."""


@dataclass(frozen=True)
class Site:
    """A service with the four accounts, and one SDK client for each."""

    service: Service
    tokens: Mapping[str, str]
    clients: Mapping[str, everspace.Client]


@dataclass(frozen=True)
class Failure:
    """How a call was refused: the errno's name and the members of the problem document."""

    errno: str
    problem: Mapping[str, Any]

    def names(self, *addresses: int) -> bool:
        """Whether each address appears in the document, as a hex string."""
        text = json.dumps(dict(self.problem))
        return all(f'"{address:#x}"' in text for address in addresses)


class World:
    """One test's view of a service, over raw HTTP (`way` "http") or the SDK ("sdk")."""

    def __init__(self, site: Site, way: Way) -> None:
        self.site = site
        self.way: Way = way
        self.tag = uuid.uuid4().hex[:12]
        self._numbers = itertools.count(1)
        self._https: dict[str, Http] = {}
        self._strangers: list[Http] = []
        self._tasks: list[int] = []

    # -- who -------------------------------------------------------------------------------------------
    def http(self, account: str) -> Http:
        """Raw HTTP as this account, whichever way the test goes."""
        if account not in self._https:
            self._https[account] = Http(self.site.service.port, self.site.tokens[account])
        return self._https[account]

    def stranger(self, token: str | None) -> Http:
        """Raw HTTP with any token, or none."""
        made = Http(self.site.service.port, token)
        self._strangers.append(made)
        return made

    def task(self, account: str) -> TaskCalls:
        """A new task of this account; it ends with the test."""
        task = self._spawn(account)
        self._tasks.append(task.pid)
        return task

    def _spawn(self, account: str) -> TaskCalls:
        if self.way == "http":
            return HttpTask.spawn(self.http(account))
        return self.site.clients[account].spawn()

    def adopt(self, task: TaskCalls) -> TaskCalls:
        """A task that the test made by itself (fork) ends with the test, too."""
        self._tasks.append(task.pid)
        return task

    @cached_property
    def owner(self) -> TaskCalls:
        return self.task("owner")

    @cached_property
    def member(self) -> TaskCalls:
        return self.task("member")

    @cached_property
    def other(self) -> TaskCalls:
        return self.task("other")

    @cached_property
    def root(self) -> TaskCalls:
        return self.task("root")

    # -- what ------------------------------------------------------------------------------------------
    def name(self) -> str:
        """A name that nothing has."""
        return f"{self.tag}/{next(self._numbers)}"

    def space(self, mode: int = 0o600, sharing: str = "exclusive", by: TaskCalls | None = None) -> int:
        """A new space, of `owner` unless somebody else is named."""
        return (by or self.owner).vas_create(self.name(), mode, sharing)

    def segment(
        self,
        mode: int = 0o600,
        sharing: str = "exclusive",
        start: int = BASE,
        pages: int = 4,
        by: TaskCalls | None = None,
    ) -> int:
        """A new segment, of `owner` unless somebody else is named."""
        return (by or self.owner).vas_seg_create(self.name(), start, start + pages * PAGE, mode, sharing)

    def space_with_segment(
        self, type: int = 2, sharing: str = "exclusive", start: int = BASE, pages: int = 4, mode: int = 0o600
    ) -> tuple[int, int]:
        """A space of `owner` that has a segment of `owner` in it."""
        vid = self.space(mode, sharing)
        sid = self.segment(mode, sharing, start, pages)
        self.owner.vas_seg_attach(vid, sid, type)
        return vid, sid

    def inside(self, sharing: str = "exclusive", pages: int = 4) -> tuple[int, int]:
        """A space with a segment, attached rw to `owner`'s task, whose main thread is inside."""
        vid, sid = self.space_with_segment(sharing=sharing, pages=pages)
        self.owner.vas_attach(0, vid, everspace.O_RDWR)
        self.owner.vas_switch(vid)
        return vid, sid

    # -- judging ---------------------------------------------------------------------------------------
    def fails(self, name: str, call: Callable[..., object], /, *args: Any, **named: Any) -> Failure:
        """The call is refused with this errno, and nothing has changed by it."""
        before = self.state()
        failure = self.refused(call, *args, **named)
        assert failure.errno == name, failure
        assert self.state() == before
        return failure

    def refused(self, call: Callable[..., object], /, *args: Any, **named: Any) -> Failure:
        """The call is refused; how."""
        try:
            value = call(*args, **named)
        except Problem as problem:
            return Failure(problem.errno, problem.document)
        except everspace.VasError as error:
            name = errno.errorcode[error.errno] if error.errno is not None else ""
            assert isinstance(error, BUILTIN.get(name, OSError)), error
            return Failure(name, error.problem)
        raise Accepted(f"not refused, but answered with {value!r}")

    def refused_or_none(self, call: Callable[..., object], /, *args: Any, **named: Any) -> Failure | None:
        """How the call was refused, or None if it was not."""
        try:
            return self.refused(call, *args, **named)
        except Accepted:
            return None

    def state(self) -> dict[str, Any]:
        """All that root can see of spaces, segments and this test's tasks, without counters and clocks."""
        root = self.http("root")
        found: dict[str, Any] = {"vas": self._all("/v1/vas"), "segments": self._all("/v1/segments")}
        for space in found["vas"]:
            for part in ("regions", "segments", "roots"):
                found[f"{space['id']}/{part}"] = self._all(f"/v1/vas/{space['id']}/{part}")
        for pid in self._tasks:
            status = root.request("GET", f"/v1/tasks/{pid}")
            if status.status == 200:
                found[f"task {pid}"] = {k: v for k, v in status.json.items() if k not in VOLATILE}
                found[f"maps {pid}"] = root.call("GET", f"/v1/proc/{pid}/maps").text
        return found

    def _all(self, path: str) -> list[dict[str, Any]]:
        items = self.http("root").get(f"{path}?limit=1000")
        assert items["next"] is None, "one test makes few objects"
        return list(items["items"])

    # -- the end ---------------------------------------------------------------------------------------
    def close(self) -> None:
        """Remove whatever the test left. Tests of one worker run one by one and share nothing but the service."""
        root = self.http("root")
        for pid in self._tasks:
            assert root.request("DELETE", f"/v1/tasks/{pid}").status in (200, 204, 404)
        for kind in ("vas", "segments"):
            with contextlib.suppress(Problem):
                for item in self._all(f"/v1/{kind}"):
                    root.request("DELETE", f"/v1/{kind}/{item['id']}")
        for http in [*self._https.values(), *self._strangers]:
            http.close()
