"""`everspaced audit list|prune`: the journal of what was changed and refused."""

import argparse
import errno
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from app.commands.options import (
    Commands,
    accounts_of,
    add_data_dir,
    add_json,
    identity,
    json_lines,
    past,
    table,
)
from storage.times import instant

if TYPE_CHECKING:
    from storage.sql.audit import AuditEntry

LIMIT_DEFAULT: Final = 100
PAGE: Final = 1000
"""Entries that are read at once."""


def add_to(commands: Commands) -> None:
    """The command's options."""
    actions = commands.add_parser("audit", help="print and prune the audit journal").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    listing = actions.add_parser("list", help="print entries, newest first")
    add_data_dir(listing)
    listing.add_argument("--uid", type=identity, metavar="N", help="of this account only")
    listing.add_argument(
        "--call", metavar="NAME", help="of this call only, like vas_create or 'token revoke'"
    )
    listing.add_argument(
        "--errno", type=_errno, metavar="NAME", help="refused with this errno only, like EACCES"
    )
    listing.add_argument(
        "--since", type=past, metavar="TIME", help="not before this time, or so long ago: 2h"
    )
    listing.add_argument("--until", type=past, metavar="TIME", help="before this time, or so long ago")
    listing.add_argument(
        "--limit",
        type=identity,
        default=LIMIT_DEFAULT,
        metavar="N",
        help=f"entries at most; by default {LIMIT_DEFAULT}",
    )
    add_json(listing)
    listing.set_defaults(run=run_list)
    prune = actions.add_parser("prune", help="remove the oldest entries; an entry says that it was done")
    add_data_dir(prune)
    prune.add_argument(
        "--before",
        type=past,
        required=True,
        metavar="TIME",
        help="remove what is older: a time, or an age: 365d",
    )
    prune.set_defaults(run=run_prune)


def _errno(text: str) -> str:
    if text not in errno.errorcode.values():
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no errno like EACCES")
    return text


def run_list(arguments: argparse.Namespace) -> int:
    """A line for each entry, newest first; times are UTC."""
    found: list[AuditEntry] = []
    with accounts_of(arguments) as accounts:
        while (missing := arguments.limit - len(found)) > 0:
            page = accounts.journal.query(
                uid=arguments.uid,
                call=arguments.call,
                errno=arguments.errno,
                since=arguments.since,
                until=arguments.until,
                after=found[-1].id if found else None,
                limit=min(PAGE, missing),
            )
            found += page
            if len(page) < PAGE:
                break
    if arguments.json:
        json_lines(asdict(entry) for entry in found)
        return 0
    rows = [
        (
            instant(entry.time), entry.uid, entry.token_id, entry.call, entry.status, entry.errno, entry.count,
            entry.request_id, entry.target,
        )
        for entry in found
    ]  # fmt: skip
    table(("TIME", "UID", "TOKEN", "CALL", "STATUS", "ERRNO", "COUNT", "REQUEST", "TARGET"), rows)
    return 0


def run_prune(arguments: argparse.Namespace) -> int:
    """Prints how many entries are gone."""
    with accounts_of(arguments) as accounts:
        gone = accounts.journal.prune(arguments.before)
    sys.stdout.write(f"{gone} entries removed\n")
    return 0
