"""`everspaced token create|list|revoke`: how accounts prove themselves. Works while the service runs."""

import argparse
import sys

from app.commands.options import Commands, accounts_of, add_data_dir, identity


def add_to(commands: Commands) -> None:
    """The command's options."""
    actions = commands.add_parser("token", help="make, list and revoke tokens").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    create = actions.add_parser("create", help="print one more token of an account")
    add_data_dir(create)
    create.add_argument("--uid", type=identity, required=True, metavar="N", help="user id of the account")
    create.set_defaults(run=run_create)
    listing = actions.add_parser(
        "list", help="print id, uid, state and age of every token; never the token itself"
    )
    add_data_dir(listing)
    listing.set_defaults(run=run_list)
    revoke = actions.add_parser("revoke", help="refuse a token from now on")
    add_data_dir(revoke)
    revoke.add_argument("id", type=identity, metavar="ID", help="as `token list` prints it")
    revoke.set_defaults(run=run_revoke)


def run_create(arguments: argparse.Namespace) -> int:
    """Prints the new token alone. Raises AccountUnknown."""
    with accounts_of(arguments) as accounts:
        token = accounts.create_token(arguments.uid)
    sys.stdout.write(f"{token}\n")
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """A line for each token, by id; times are UTC."""
    with accounts_of(arguments) as accounts:
        found = accounts.list_tokens()
    sys.stdout.write(f"{'ID':<6} {'UID':<10} {'CREATED':<20} STATE\n")
    for token in found:
        state = "valid" if token.revoked is None else f"revoked {token.revoked:%Y-%m-%dT%H:%M:%S}"
        sys.stdout.write(f"{token.id:<6} {token.uid:<10} {token.created:%Y-%m-%dT%H:%M:%S}  {state}\n")
    return 0


def run_revoke(arguments: argparse.Namespace) -> int:
    """Prints nothing. Raises TokenUnknown."""
    with accounts_of(arguments) as accounts:
        accounts.revoke_token(arguments.id)
    return 0
