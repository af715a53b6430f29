"""`everspaced account create|list`: who may call. Works while the service runs, with effect at once."""

import argparse
import sys

from app.commands.options import Commands, accounts_of, add_data_dir, identity


def add_to(commands: Commands) -> None:
    """The command's options."""
    actions = commands.add_parser("account", help="make and list accounts").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    create = actions.add_parser("create", help="make an account and print its first token")
    add_data_dir(create)
    create.add_argument("--uid", type=identity, required=True, metavar="N", help="user id")
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
    listing.set_defaults(run=run_list)


def run_create(arguments: argparse.Namespace) -> int:
    """Prints the new token alone. Raises AccountExists, AccountInvalid."""
    with accounts_of(arguments) as accounts:
        token = accounts.create_account(arguments.uid, arguments.gid, arguments.name)
    sys.stdout.write(f"{token}\n")
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """A line for each account, by uid."""
    with accounts_of(arguments) as accounts:
        found = accounts.list_accounts()
    sys.stdout.write(f"{'UID':<10} {'GIDS':<20} NAME\n")
    for account in found:
        gids = ",".join(map(str, account.gids))
        sys.stdout.write(f"{account.uid:<10} {gids:<20} {account.name}\n")
    return 0
