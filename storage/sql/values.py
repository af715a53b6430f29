"""What the accounts consist of, as values; and what a uid, a name, a scope or a quota may be."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from storage.errors import AccountInvalid
from storage.sql.tables import NAME_LENGTH_MAX

ID_MAX: Final = 2**32 - 2
ROOT_UID: Final = 0
SCOPES: Final = ("read", "write", "audit")
"""What a token may be let do; one that says nothing else may do all of it."""
QUOTA_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Quota:
    """What an account may own and ask for at most; None is without a limit."""

    spaces: int | None = None
    segments: int | None = None
    bytes: int | None = None
    """Of pages that the store keeps for its spaces and segments."""
    tasks: int | None = None
    rate: int | None = None
    """Requests a second."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who a token stands for; `gids[0]` is the primary group."""

    uid: int
    gids: tuple[int, ...]
    name: str
    quota: Quota = Quota()


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token that holds gives: the account, and what may be done in its name until `expires` (UTC)."""

    account: Account
    token_id: int
    scopes: frozenset[str]
    expires: datetime | None


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret; times are UTC."""

    id: int
    uid: int
    created: datetime
    revoked: datetime | None
    scopes: frozenset[str]
    expires: datetime | None


@dataclass(frozen=True, slots=True)
class Group:
    """A gid, its name, and the uids of the accounts in it."""

    gid: int
    name: str
    members: tuple[int, ...]


def require_account(uid: int, gids: Sequence[int], name: str | None) -> None:
    """Raises AccountInvalid."""
    if not gids:
        raise AccountInvalid("an account needs at least one gid")
    if any(not 0 <= number <= ID_MAX for number in (uid, *gids)):
        raise AccountInvalid(f"uid and gids are 0 to {ID_MAX}")
    if len(set(gids)) != len(gids):
        raise AccountInvalid("a gid is named twice")
    require_name(name)


def require_name(name: str | None) -> None:
    """Raises AccountInvalid."""
    if name is not None and (not 1 <= len(name) <= NAME_LENGTH_MAX or not name.isprintable()):
        raise AccountInvalid(f"a name is 1 to {NAME_LENGTH_MAX} printable characters")


def scopes_text(scopes: Iterable[str]) -> str:
    """The scopes as the table keeps them. Raises AccountInvalid."""
    chosen = set(scopes)
    if not chosen or not chosen <= set(SCOPES):
        raise AccountInvalid(f"scopes are one or more of {', '.join(SCOPES)}")
    return " ".join(sorted(chosen))


def in_order(scopes: Iterable[str]) -> list[str]:
    """Scopes as they are printed everywhere: in the order of `SCOPES`, then what is none."""
    chosen = set(scopes)
    return [*(scope for scope in SCOPES if scope in chosen), *sorted(chosen.difference(SCOPES))]


def require_limits(limits: Mapping[str, int | None]) -> None:
    """Limits of a quota by name. Raises AccountInvalid."""
    for name, limit in limits.items():
        least = 1 if name == "rate" else 0
        if limit is not None and not least <= limit <= QUOTA_MAX:
            raise AccountInvalid(f"{name} of a quota is {least} to {QUOTA_MAX}, or none")
