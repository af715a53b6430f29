"""The sync client: one service, one account, one pool of connections."""

import weakref
from collections.abc import Iterator
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar

from everspace._calls import accounts, tasks
from everspace._calls.call import Call, TaskState, ThreadState
from everspace._driver import Driver
from everspace._following import Following
from everspace._session import Session, Settings
from everspace._sockets import SocketTransport
from everspace._url import Certificate, Files, find_endpoint, find_token
from everspace.accounts import Account, AuditEntry
from everspace.errors import CannotConnectError, ServiceUnavailable
from everspace.events import Events
from everspace.models import TaskInfo, Version
from everspace.segments import Segments
from everspace.spaces import Spaces
from everspace.task import Task
from everspace.transport import Transport
from everspace.wire import LEASE_SECONDS_DEFAULT

T = TypeVar("T")


def connect(
    url: str | None = None,
    token: str | None = None,
    timeout: float | None = 30.0,
    *,
    ca: Files | None = None,
    cert: Certificate | None = None,
    respawn: bool = False,
    transport: Transport | None = None,
) -> "Client":
    """A client of the service at `url`; nothing is sent yet.

    `url`: http://host:port, https://host or unix:/path; default EVERSPACE_URL, else http://127.0.0.1:8765.
    `token`: default EVERSPACE_TOKEN. `ca`: whom an https:// client trusts in the place of the system's certificates, a PEM
    file or a directory of them; default EVERSPACE_CA. `cert`: who it says that it is, a PEM file with certificate and
    key or one for each; default EVERSPACE_CERT and EVERSPACE_KEY. `timeout`: the longest silence in seconds, None waits without end.
    `respawn`: after a restart of the service bring this client's tasks back: spawn them again, attach what they
    had attached, switch to where they were. `transport` replaces the default one.
    Raises ValueError for a URL, token or certificate that cannot be one.
    """
    endpoint = find_endpoint(url, ca, cert)
    settings = Settings(find_token(token), timeout, endpoint.prefix, respawn)
    return Client(transport or SocketTransport(endpoint), settings)


class Client:
    """Made by `connect`. Safe to use from any thread; a context manager that closes on leaving."""

    def __init__(self, transport: Transport, settings: Settings | None = None) -> None:
        self._driver = Driver(transport, Session(settings or Settings()))
        self._finalizer = weakref.finalize(self, self._driver.stop)

    @property
    def spaces(self) -> Spaces:
        """All spaces of the service, as objects."""
        return Spaces(self)

    @property
    def segments(self) -> Segments:
        """All segments of the service, as objects."""
        return Segments(self)

    def spawn(self, name: str | None = None, lease: float = LEASE_SECONDS_DEFAULT) -> Task:
        """A new task of the caller's account; its lease (1 to 86400 seconds) is renewed until it exits. EINVAL."""
        return self.adopt(self.perform(tasks.spawn(name, lease)))

    def task(self, pid: int) -> Task:
        """A handle on a task that exists already, made by whomever. Its lease is not renewed by itself. ESRCH."""
        return Task(self, self.perform(tasks.task_of(pid)))

    def task_info(self, pid: int) -> TaskInfo:
        """What the service knows of a task. ESRCH."""
        return self.perform(tasks.info_of(pid))

    def tasks(self) -> Iterator[TaskInfo]:
        """All tasks that the service knows."""
        cursor = None
        while True:
            page = self.perform(tasks.task_list(cursor))
            yield from page.items
            cursor = page.next
            if cursor is None:
                return

    def events(
        self,
        *kinds: str,
        vid: int | None = None,
        sid: int | None = None,
        pid: int | None = None,
        since: str | None = None,
    ) -> Events:
        """What happens from now on, or after the event with id `since`: an iterator without end. It is opened at once.

        Only kinds that begin with one of `kinds` ("space.", "task.exited"), only about this space, segment, task.
        When the connection is lost it goes on where it was. EINVAL, EAGAIN (too many streams).
        """
        return Events(self._driver, Following(self.session, kinds, vid, sid, pid, since))

    def account(self) -> Account:
        """Whom the token stands for, what it is good for, the quota, and what the account owns now."""
        return self.perform(accounts.account())

    def audit(
        self,
        uid: int | None = None,
        call: str | None = None,
        errno: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[AuditEntry]:
        """What this account did and was refused, newest first; for root what all did, or `uid`. EPERM: another's.

        Only of one call, only refusals with one errno, only of `since` or later and before `until`.
        """
        cursor = None
        while True:
            page = self.perform(accounts.audit(uid, call, errno, since, until, cursor))
            yield from page.items
            cursor = page.next
            if cursor is None:
                return

    def version(self) -> Version:
        """What runs at the other end; needs no token."""
        return self.perform(tasks.version())

    def ready(self) -> bool:
        """Whether the service is there and takes calls; needs no token."""
        try:
            return self.perform(tasks.ready())
        except (ServiceUnavailable, CannotConnectError):
            return False

    def close(self, exit_tasks: bool = True) -> None:
        """End the tasks that this client spawned or forked, its renewals and its connections.

        With `exit_tasks` false the tasks live on until their leases end.
        """
        if self._finalizer.alive:
            if exit_tasks:
                self._driver.exit_tasks()
            self._finalizer()

    def perform(self, call: Call[T], task: TaskState | None = None, thread: ThreadState | None = None) -> T:
        """The one way to the service, which all objects of this client take."""
        return self._driver.perform(call, task, thread)

    @property
    def session(self) -> Session:
        """How this client asks and reads."""
        return self._driver.session

    def adopt(self, state: TaskState) -> Task:
        """A handle on a task that was just made; from now on its lease is renewed."""
        self._driver.keep(state)
        return Task(self, state)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
