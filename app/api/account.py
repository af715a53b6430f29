"""Who I am, what I may have, and what I have: GET /v1/account. What was done: GET /v1/audit."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import Query
from pydantic import BeforeValidator, WithJsonSchema

from app.calls.answers import Account, AuditEntry, Page, QuotaLimits, QuotaUsage
from app.errors import HttpProblem, bad_input
from app.http import paging
from app.http.exchange import SCOPE_EXCHANGE, Exchange, parse_id, parse_query
from app.routes.context import CallerDep
from app.routes.listing import ListingDep
from app.routes.routing import new_router
from engine.constants import ID_MAX
from engine.errors import EPERM, EngineError
from everspace.wire import ERRNO_STATUS
from storage.errors import AccountsUnreachable
from storage.sql.values import in_order

NAME_LENGTH_MAX: Final = 64
"""Characters of the name of a call."""
AUDIT_ID_MAX: Final = 2**63 - 1
AUDIT_PARAMETERS: Final = frozenset({"uid", "call", "errno", "since", "until", "cursor", "limit"})
"""One that is misspelt would show everything, and look as if it had been heeded."""

router = new_router("account")

UidQuery = Annotated[
    int | None,
    BeforeValidator(parse_id),
    WithJsonSchema({"type": "integer"}),
    Query(description="Only of this uid; by default, and for all but root, the caller's."),
]
Time = Annotated[
    str | None,
    WithJsonSchema({"type": "string", "format": "date-time"}),
    Query(description="RFC 3339."),
]


@router.get("/account", operation_id="account", summary="Who the caller is, his quota and what he uses")
async def account(caller: CallerDep) -> Account:
    """The account of the token, its scopes, the quota (null: no limit), and what it owns, as of now."""
    executor = caller.service.executor
    exchange: Exchange = caller.request.scope[SCOPE_EXCHANGE]
    grant = exchange.grant
    if grant is None:
        raise EngineError(EPERM, "no account is known")
    await executor.caught_up()
    return Account(
        uid=grant.account.uid,
        gids=list(grant.account.gids),
        name=grant.account.name,
        scopes=in_order(grant.scopes),
        expires=grant.expires,
        quota=QuotaLimits.model_validate(grant.account.quota),
        usage=QuotaUsage.model_validate(executor.quotas.usage(grant.account.uid)),
    )


@router.get("/audit", operation_id="audit", summary="What was done and refused, newest first")
async def audit(
    caller: CallerDep,
    listing: ListingDep,
    uid: UidQuery = None,
    call: Annotated[str | None, Query(description="Only of this operation or command.")] = None,
    errno: Annotated[str | None, Query(description="Only refusals with this errno.")] = None,
    since: Time = None,
    until: Time = None,
) -> Page[AuditEntry]:
    """Entries of the audit journal: one's own, for root all. EINVAL; EPERM: of another uid."""
    own = caller.cred.uid
    for name in parse_query(caller.request.scope["query_string"]).keys() - AUDIT_PARAMETERS:
        raise bad_input(f"{name:.40} is none of {', '.join(sorted(AUDIT_PARAMETERS))}")
    if call is not None and not (call.isprintable() and len(call) <= NAME_LENGTH_MAX):
        raise bad_input("call is no name of one")
    if errno is not None and errno not in ERRNO_STATUS:
        raise bad_input(f"errno is one of {', '.join(sorted(ERRNO_STATUS))}")
    if uid is not None and not 0 <= uid <= ID_MAX:
        raise bad_input(f"uid is 0 to {ID_MAX}, not {uid}")
    if not caller.cred.is_root and uid not in (None, own):
        raise EngineError(EPERM, f"only root sees what uid {uid} did")
    whose = uid if caller.cred.is_root else own
    before = None if listing.cursor is None else min(paging.after(listing.cursor), AUDIT_ID_MAX)
    began, ended = _time("since", since), _time("until", until)
    try:
        found = await caller.service.auditing.query(
            uid=whose, call=call, errno=errno, since=began, until=ended, after=before, limit=listing.limit + 1
        )
    except AccountsUnreachable as failure:
        raise HttpProblem(503, str(failure), (b"retry-after", b"1")) from failure
    shown = found[: listing.limit]
    following = paging.cursor_after(shown[-1].id) if len(found) > len(shown) else None
    items = [AuditEntry.model_validate(entry) for entry in shown]
    return Page(items=items, next=listing.linked(following))


def _time(name: str, text: Any) -> datetime | None:
    """A time with its offset, or of UTC. EINVAL: none, or not one that a calendar of UTC has."""
    if text is None:
        return None
    try:
        given = datetime.fromisoformat(text)
        return given.replace(tzinfo=UTC) if given.tzinfo is None else given.astimezone(UTC)
    except (ValueError, OverflowError):
        raise bad_input(f"{name} is not a time as RFC 3339 has it") from None
