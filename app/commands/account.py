"""`everspaced account create|list|rename|delete`: who may call. Works while the service runs, with effect at once."""

import argparse
import sys

from app.commands.options import Commands, accounts_of, add_data_dir, add_json, identity, json_lines, table


def add_to(commands: Commands) -> None:
    """The command's options."""
    actions = commands.add_parser("account", help="make, list, rename and delete accounts").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    create = actions.add_parser("create", help="make an account and print its first token")
    _add_uid(create)
    create.add_argument(
        "--gid",
        type=identity,
        required=True,
        action="append",
        metavar="N",
        help="group id; the first is primary",
    )
    create.add_argument("--name", metavar="NAME", help="for people; by default uid-N")
    create.set_defaults(run=run_create)
    listing = actions.add_parser("list", help="print uid, gids and name of every account")
    add_data_dir(listing)
    add_json(listing)
    listing.set_defaults(run=run_list)
    rename = actions.add_parser("rename", help="give an account another name")
    _add_uid(rename)
    rename.add_argument("--name", required=True, metavar="NAME", help="for people")
    rename.set_defaults(run=run_rename)
    delete = actions.add_parser("delete", help="delete an account and its tokens; what it owns stays")
    _add_uid(delete)
    delete.set_defaults(run=run_delete)


def _add_uid(parser: argparse.ArgumentParser) -> None:
    add_data_dir(parser)
    parser.add_argument("--uid", type=identity, required=True, metavar="N", help="user id")


def run_create(arguments: argparse.Namespace) -> int:
    """Prints the new token alone. Raises AccountExists, AccountInvalid."""
    with accounts_of(arguments, create=True) as accounts:
        token = accounts.create_account(arguments.uid, arguments.gid, arguments.name)
    sys.stdout.write(f"{token}\n")
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """A line for each account, by uid."""
    with accounts_of(arguments) as accounts:
        found = accounts.list_accounts()
    if arguments.json:
        json_lines({"uid": each.uid, "gids": each.gids, "name": each.name} for each in found)
        return 0
    rows = [(account.uid, ",".join(map(str, account.gids)), account.name) for account in found]
    table(("UID", "GIDS", "NAME"), rows)
    return 0


def run_rename(arguments: argparse.Namespace) -> int:
    """Prints nothing. Raises AccountUnknown, AccountInvalid."""
    with accounts_of(arguments) as accounts:
        accounts.rename_account(arguments.uid, arguments.name)
    return 0


def run_delete(arguments: argparse.Namespace) -> int:
    """Prints nothing. Raises AccountUnknown, AccountInvalid for root."""
    with accounts_of(arguments) as accounts:
        accounts.delete_account(arguments.uid)
    return 0
