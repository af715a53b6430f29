"""Who calls: a bearer token names an account, and the account a uid with its groups."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Final, Protocol

from app.accounts.quotas import QuotaPort
from app.accounts.rates import Window
from app.accounts.threads import Threads
from app.errors import Header, HttpProblem
from engine.credentials import Credentials
from engine.errors import EAGAIN, EngineError
from everspace.wire import API_PREFIX
from storage.errors import AccountsUnreachable

CACHE_MAX: Final = 4096
SCHEME: Final = b"bearer"
CHALLENGE: Final = (b"www-authenticate", b'Bearer realm="everspace"')
UNKNOWN: Final = "unknown, revoked or expired token"
"""Which of them it is, nobody is told."""
CHALLENGE_INVALID: Final = (b"www-authenticate", b'Bearer realm="everspace", error="invalid_token"')
FAILURES_PER_S: Final = 500
"""Different tokens that are no good, from one address; more are not even looked up."""
PEERS_MAX: Final = 4096
"""Addresses whose failures are counted."""
ANSWER_S: Final = 10.0
"""How long the accounts may take to answer; a database behind a network that is cut says nothing for minutes."""
ASKING_MAX: Final = 4
"""Threads that ask the accounts; accounts that say nothing keep these, and no others."""
WATCH_S: Final = 0.25
"""How soon a request that waits, or a stream, learns that its token is good no longer."""


AUDIT_PATH: Final = f"{API_PREFIX}/audit"


def scope_of(method: str, path: str) -> str:
    """The scope that a request needs: "audit" for the journal, "read" for what changes nothing, else "write"."""
    if method not in ("GET", "HEAD"):
        return "write"
    return "audit" if path == AUDIT_PATH else "read"


def insufficient(scope: str) -> Header:
    """What says that a token is good, but not for this (RFC 6750)."""
    challenge = f'Bearer realm="everspace", error="insufficient_scope", scope="{scope}"'
    return (b"www-authenticate", challenge.encode("ascii"))


class AccountPort(Protocol):
    """Whom a token stands for."""

    @property
    def uid(self) -> int: ...

    @property
    def gids(self) -> tuple[int, ...]: ...

    @property
    def name(self) -> str: ...

    @property
    def quota(self) -> QuotaPort: ...


class GrantPort(Protocol):
    """What a token lets its bearer do: `storage.sql.accounts.Grant`."""

    @property
    def account(self) -> AccountPort: ...

    @property
    def token_id(self) -> int: ...

    @property
    def scopes(self) -> frozenset[str]: ...

    @property
    def expires(self) -> datetime | None: ...


class AccountsPort(Protocol):
    """What authentication needs of `storage.sql.accounts.AccountStore`. Raises AccountsUnreachable."""

    def authenticate(self, token: str) -> GrantPort | None: ...

    def quotas(self) -> Mapping[int, QuotaPort]: ...

    def data_version(self) -> int | None: ...


class QuotasPort(Protocol):
    """Who is told what the quotas are."""

    def replace(self, limits: Mapping[int, QuotaPort]) -> None: ...

    def put(self, uid: int, quota: QuotaPort | None) -> None: ...


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who has a token: what it grants until `until` (seconds since 1970, None: without end), and the caller it makes."""

    grant: GrantPort
    cred: Credentials
    until: float | None


class Authenticator:
    """Resolves tokens, and passes on the quotas as they are. On the event loop's thread.

    Answers are remembered only while nobody has changed the accounts. `data_version` is asked at every request (about
    two microseconds on SQLite), so a revoked token is refused and a new one accepted from the next request on. Where
    the accounts have no such number nothing is remembered. Tokens themselves are not kept, only their digests.
    """

    def __init__(
        self, accounts: AccountsPort, quotas: Callable[[], QuotasPort], clock: Callable[[], float] = time.time
    ) -> None:
        self._accounts = accounts
        self._quotas = quotas
        self._clock = clock
        self._version: int | None = None
        self._quotas_known = False
        self._loading = asyncio.Lock()
        self._threads = Threads(ASKING_MAX, "everspace-accounts")
        self._known: dict[bytes, Bearer | None] = {}
        """By the digest of the header; None: the token is no good."""
        self._failures: dict[str, Window] = {}
        self._watched: dict[asyncio.Future[None], bytes] = {}
        self.away: str | None = None
        """Why the accounts did not answer when they were looked at last; None if they did."""

    async def bearer(self, authorization: bytes | None, peer: str | None = None) -> Bearer:
        """Who has the token of an Authorization header. Raises HttpProblem 401, and 503: the accounts do not answer.

        EAGAIN: too many tokens from `peer` were no good; None is the service itself, which may ask as often as it likes.
        """
        if authorization is None:
            raise HttpProblem(401, "a bearer token is needed", CHALLENGE)
        try:
            version = self._accounts.data_version()
            if version is None or version != self._version:
                self._known.clear()
                self._version = version
                self._quotas_known = self._quotas_known and version is None
            if not self._quotas_known:
                await self._load_quotas()
            digest = sha256(authorization).digest()
            if digest in self._known:
                known = self._known[digest]
            else:
                known = await self._look_up(authorization, digest, peer)
        except AccountsUnreachable as failure:
            raise HttpProblem(503, str(failure), (b"retry-after", b"1")) from failure
        if known is None:
            raise HttpProblem(401, UNKNOWN, CHALLENGE_INVALID)
        if known.until is not None and self._clock() >= known.until:
            raise HttpProblem(401, UNKNOWN, CHALLENGE_INVALID)
        return known

    async def credentials(self, authorization: bytes | None) -> Credentials:
        """The caller named by an Authorization header. As `bearer`."""
        return (await self.bearer(authorization)).cred

    @contextmanager
    def watching(self, authorization: bytes | None) -> "Iterator[asyncio.Future[None]]":
        """What is done, at the latest `WATCH_S` later, when the token is good no longer."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watched[ended] = authorization or b""
        try:
            yield ended
        finally:
            del self._watched[ended]

    async def look(self) -> None:
        """See whether the accounts answer, and which of the tokens that are watched are good no longer.

        To be called every `WATCH_S`.
        """
        try:
            if self._accounts.data_version() is None:
                self._quotas_known = False  # nobody tells when they change
                await self._load_quotas()
        except AccountsUnreachable as failure:
            self.away = str(failure)
        else:
            self.away = None
        good: dict[bytes, bool] = {}
        for ended, authorization in list(self._watched.items()):
            if authorization not in good:
                good[authorization] = await self._is_good(authorization)
            if not good[authorization] and not ended.done():
                ended.set_result(None)

    async def _is_good(self, authorization: bytes) -> bool:
        try:
            await self.bearer(authorization)
        except HttpProblem as refused:
            return refused.status != 401
        return True

    async def _look_up(self, authorization: bytes, digest: bytes, peer: str | None) -> Bearer | None:
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != SCHEME or not token.strip():
            raise HttpProblem(401, "a bearer token is needed", CHALLENGE)
        failures = None if peer is None else self._failures.get(peer)
        if failures is not None and failures.wait(self._clock()):
            raise EngineError(EAGAIN, "too many tokens from this address are unknown or revoked")
        version = self._version
        ask = partial(self._accounts.authenticate, token.strip().decode("latin-1"))
        async with answering():
            grant = await self._threads.run(ask)
        found = None
        if grant is None:
            if peer is not None:
                self._note_failure(peer)
        else:
            account = grant.account
            until = None if grant.expires is None else grant.expires.timestamp()
            found = Bearer(grant, Credentials(account.uid, tuple(account.gids)), until)
            if version is None:
                self._quotas().put(account.uid, account.quota)
        if version is not None and version == self._version:
            if len(self._known) >= CACHE_MAX:
                self._known.clear()
            self._known[digest] = found
        return found

    async def _load_quotas(self) -> None:
        async with answering(), self._loading:
            while not self._quotas_known:
                version = self._version
                limits = await self._threads.run(self._accounts.quotas)
                self._quotas_known = version == self._version
                self._quotas().replace(limits)

    def _note_failure(self, peer: str) -> None:
        if len(self._failures) >= PEERS_MAX:
            self._failures.clear()
        window = self._failures.get(peer)
        if window is None:
            window = self._failures[peer] = Window(FAILURES_PER_S)
        window.take(self._clock())


@asynccontextmanager
async def answering() -> AsyncIterator[None]:
    """What asks the accounts inside may take `ANSWER_S`. Raises AccountsUnreachable when it takes longer."""
    try:
        async with asyncio.timeout(ANSWER_S):
            yield
    except TimeoutError:
        raise AccountsUnreachable("the accounts cannot be reached: no answer") from None
