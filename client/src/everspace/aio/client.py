"""The async client: `everspace.client` with every call awaited."""

from collections.abc import AsyncIterator, Generator
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from everspace._calls import accounts, tasks
from everspace._calls.call import Call, TaskState, ThreadState
from everspace._following import Following
from everspace._session import Session, Settings
from everspace._streams import StreamTransport
from everspace._url import Certificate, Files, find_endpoint, find_token
from everspace.accounts import Account, AuditEntry
from everspace.aio.driver import AsyncDriver
from everspace.aio.entering import Entering
from everspace.aio.events import AsyncEvents
from everspace.aio.segments import AsyncSegments
from everspace.aio.spaces import AsyncSpaces
from everspace.aio.task import AsyncTask
from everspace.errors import CannotConnectError, ServiceUnavailable
from everspace.models import TaskInfo, Version
from everspace.transport import AsyncTransport
from everspace.wire import LEASE_SECONDS_DEFAULT

T = TypeVar("T")


def aconnect(
    url: str | None = None,
    token: str | None = None,
    timeout: float | None = 30.0,
    *,
    ca: Files | None = None,
    cert: Certificate | None = None,
    respawn: bool = False,
    transport: AsyncTransport | None = None,
) -> "AsyncClient":
    """The async twin of `connect`; to be called on the event loop that the client is then used on.

    `async with everspace.aconnect() as client:` and `client = await everspace.aconnect()` both work.
    """
    endpoint = find_endpoint(url, ca, cert)
    settings = Settings(find_token(token), timeout, endpoint.prefix, respawn)
    return AsyncClient(transport or StreamTransport(endpoint), settings)


class AsyncClient:
    """Made by `aconnect`, for one event loop; a context manager that closes on leaving."""

    def __init__(self, transport: AsyncTransport, settings: Settings | None = None) -> None:
        self._driver = AsyncDriver(transport, Session(settings or Settings()))
        self._closed = False

    @property
    def spaces(self) -> AsyncSpaces:
        """All spaces of the service, as objects."""
        return AsyncSpaces(self)

    @property
    def segments(self) -> AsyncSegments:
        """All segments of the service, as objects."""
        return AsyncSegments(self)

    def spawn(self, name: str | None = None, lease: float = LEASE_SECONDS_DEFAULT) -> Entering[AsyncTask]:
        """A new task of the caller's account; its lease (1 to 86400 seconds) is renewed until it exits. EINVAL."""
        return Entering(self._spawn(name, lease))

    async def _spawn(self, name: str | None, lease: float) -> AsyncTask:
        return self.adopt(await self.perform(tasks.spawn(name, lease)))

    async def task(self, pid: int) -> AsyncTask:
        """A handle on a task that exists already, made by whomever. Its lease is not renewed by itself. ESRCH."""
        return AsyncTask(self, await self.perform(tasks.task_of(pid)))

    async def task_info(self, pid: int) -> TaskInfo:
        """What the service knows of a task. ESRCH."""
        return await self.perform(tasks.info_of(pid))

    async def tasks(self) -> AsyncIterator[TaskInfo]:
        """All tasks that the service knows."""
        cursor = None
        while True:
            page = await self.perform(tasks.task_list(cursor))
            for info in page.items:
                yield info
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
    ) -> AsyncEvents:
        """What happens from now on, or after the event with id `since`: an iterator without end. It is opened on entering it, or with the first event that is asked for.

        Only kinds that begin with one of `kinds` ("space.", "task.exited"), only about this space, segment, task.
        When the connection is lost it goes on where it was. EINVAL, EAGAIN (too many streams).
        """
        return AsyncEvents(self._driver, Following(self.session, kinds, vid, sid, pid, since))

    async def account(self) -> Account:
        """Whom the token stands for, what it is good for, the quota, and what the account owns now."""
        return await self.perform(accounts.account())

    async def audit(
        self,
        uid: int | None = None,
        call: str | None = None,
        errno: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[AuditEntry]:
        """What this account did and was refused, newest first; for root what all did, or `uid`. EPERM: another's.

        Only of one call, only refusals with one errno, only of `since` or later and before `until`.
        """
        cursor = None
        while True:
            page = await self.perform(accounts.audit(uid, call, errno, since, until, cursor))
            for entry in page.items:
                yield entry
            cursor = page.next
            if cursor is None:
                return

    async def version(self) -> Version:
        """What runs at the other end; needs no token."""
        return await self.perform(tasks.version())

    async def ready(self) -> bool:
        """Whether the service is there and takes calls; needs no token."""
        try:
            return await self.perform(tasks.ready())
        except (ServiceUnavailable, CannotConnectError):
            return False

    async def close(self, exit_tasks: bool = True) -> None:
        """End the tasks that this client spawned or forked, its renewals and its connections.

        With `exit_tasks` false the tasks live on until their leases end.
        """
        if not self._closed:
            self._closed = True
            if exit_tasks:
                await self._driver.exit_tasks()
            await self._driver.stop()

    async def perform(
        self, call: Call[T], task: TaskState | None = None, thread: ThreadState | None = None
    ) -> T:
        """The one way to the service, which all objects of this client take."""
        return await self._driver.perform(call, task, thread)

    @property
    def session(self) -> Session:
        """How this client asks and reads."""
        return self._driver.session

    def adopt(self, state: TaskState) -> AsyncTask:
        """A handle on a task that was just made; from now on its lease is renewed."""
        self._driver.keep(state)
        return AsyncTask(self, state)

    def __await__(self) -> Generator[Any, Any, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
