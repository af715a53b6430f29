"""Who calls: a bearer token names an account, and the account a uid with its groups."""

import asyncio
from datetime import datetime
from typing import Protocol

from app.errors import HttpProblem
from engine.credentials import Credentials

CACHE_MAX = 4096
SCHEME = b"bearer"
CHALLENGE = (b"www-authenticate", b'Bearer realm="everspace"')
CHALLENGE_INVALID = (b"www-authenticate", b'Bearer realm="everspace", error="invalid_token"')


class AccountPort(Protocol):
    """What a token resolves to."""

    @property
    def uid(self) -> int: ...

    @property
    def gids(self) -> tuple[int, ...]: ...


class GrantPort(Protocol):
    """What a token lets its bearer do: `storage.accounts.Grant`."""

    @property
    def account(self) -> AccountPort: ...

    @property
    def token_id(self) -> int: ...

    @property
    def scopes(self) -> frozenset[str]: ...

    @property
    def expires(self) -> datetime | None: ...


class AccountsPort(Protocol):
    """What authentication needs of `storage.accounts.AccountStore`."""

    def authenticate(self, token: str) -> GrantPort | None: ...

    def data_version(self) -> int | None: ...


class Authenticator:
    """Resolves tokens. Answers are remembered only while no other process has changed the accounts.

    `data_version` is asked at every request (about two microseconds on SQLite), so a revoked token is refused and a
    new one accepted from the next request on. Where the accounts have no such number nothing is remembered.
    """

    def __init__(self, accounts: AccountsPort) -> None:
        self._accounts = accounts
        self._version: int | None = None
        self._known: dict[bytes, Credentials] = {}

    async def credentials(self, authorization: bytes | None) -> Credentials:
        """The caller named by an Authorization header. Raises HttpProblem 401."""
        if authorization is None:
            raise HttpProblem(401, "a bearer token is needed", CHALLENGE)
        version = self._accounts.data_version()
        if version is None or version != self._version:
            self._known.clear()
            self._version = version
        known = self._known.get(authorization)
        if known is not None:
            return known
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != SCHEME or not token.strip():
            raise HttpProblem(401, "a bearer token is needed", CHALLENGE)
        grant = await asyncio.to_thread(self._accounts.authenticate, token.strip().decode("latin-1"))
        if grant is None:
            raise HttpProblem(401, "unknown or revoked token", CHALLENGE_INVALID)
        cred = Credentials(grant.account.uid, tuple(grant.account.gids))
        if version is not None and version == self._version and grant.expires is None:
            if len(self._known) >= CACHE_MAX:
                self._known.clear()
            self._known[authorization] = cred
        return cred
