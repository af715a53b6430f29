"""`everspaced token create|list|revoke`: how accounts prove themselves. Works while the service runs."""

import argparse
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from app.commands.options import (
    Commands,
    accounts_of,
    add_data_dir,
    add_json,
    identity,
    json_lines,
    moment,
    span,
    table,
)
from storage.times import instant

if TYPE_CHECKING:
    from storage.sql.accounts import Token


def add_to(commands: Commands) -> None:
    """The command's options."""
    actions = commands.add_parser("token", help="make, list and revoke tokens").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    create = actions.add_parser("create", help="print one more token of an account")
    add_data_dir(create)
    create.add_argument("--uid", type=identity, required=True, metavar="N", help="user id of the account")
    create.add_argument(
        "--scope",
        action="append",
        metavar="SCOPE",
        help="what it may be used for: read, write or audit; may be repeated; by default all",
    )
    create.add_argument(
        "--expires",
        type=_expiry,
        metavar="TIME",
        help="when it ends: a time like 2027-01-31T12:00:00Z, or from now like 30d (m, h, d, w)",
    )
    create.set_defaults(run=run_create)
    listing = actions.add_parser("list", help="print what is known of every token; never the token itself")
    add_data_dir(listing)
    add_json(listing)
    listing.set_defaults(run=run_list)
    revoke = actions.add_parser("revoke", help="refuse a token from now on")
    add_data_dir(revoke)
    revoke.add_argument("id", type=identity, metavar="ID", help="as `token list` prints it")
    revoke.set_defaults(run=run_revoke)


def run_create(arguments: argparse.Namespace) -> int:
    """Prints the new token alone. Raises AccountUnknown, AccountInvalid."""
    from storage.sql.accounts import SCOPES

    with accounts_of(arguments) as accounts:
        token = accounts.create_token(
            arguments.uid, scopes=arguments.scope or SCOPES, expires_in=arguments.expires
        )
    sys.stdout.write(f"{token}\n")
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """A line for each token, by id; times are UTC."""
    from storage.sql.values import in_order

    with accounts_of(arguments) as accounts:
        found = accounts.list_tokens()
    if arguments.json:
        json_lines(asdict(token) | {"scopes": in_order(token.scopes)} for token in found)
        return 0
    rows = [
        (
            token.id,
            token.uid,
            instant(token.created),
            instant(token.expires),
            ",".join(in_order(token.scopes)),
            _state(token),
        )
        for token in found
    ]
    table(("ID", "UID", "CREATED", "EXPIRES", "SCOPES", "STATE"), rows)
    return 0


def run_revoke(arguments: argparse.Namespace) -> int:
    """Prints nothing. Raises TokenUnknown."""
    with accounts_of(arguments) as accounts:
        accounts.revoke_token(arguments.id)
    return 0


def _expiry(text: str) -> timedelta:
    ahead = span(text)
    return moment(text) - datetime.now(UTC) if ahead is None else ahead


def _state(token: "Token") -> str:
    if token.revoked is not None:
        return f"revoked {instant(token.revoked)}"
    return "expired" if token.expires is not None and token.expires <= datetime.now(UTC) else "valid"
