"""`everspaced group create|list|rename|add|remove|delete`: gids and who has them. With effect at once."""

import argparse
from dataclasses import asdict

from app.commands.options import Commands, accounts_of, add_data_dir, add_json, identity, json_lines, table


def add_to(commands: Commands) -> None:
    """The command's options."""
    actions = commands.add_parser("group", help="make groups, and say who is in them").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    create = actions.add_parser("create", help="make a group that nobody is in")
    _add_gid(create)
    create.add_argument("--name", metavar="NAME", help="for people; by default gid-N")
    create.set_defaults(run=run_create)
    listing = actions.add_parser("list", help="print gid, uids of the members, and name of every group")
    add_data_dir(listing)
    add_json(listing)
    listing.set_defaults(run=run_list)
    rename = actions.add_parser("rename", help="give a group another name")
    _add_gid(rename)
    rename.add_argument("--name", required=True, metavar="NAME", help="for people")
    rename.set_defaults(run=run_rename)
    for action, run, text in (
        ("add", run_add, "let an account be in a group"),
        ("remove", run_remove, "let an account be in a group no more; not in its primary one"),
    ):
        parser = actions.add_parser(action, help=text)
        _add_gid(parser)
        parser.add_argument("--uid", type=identity, required=True, metavar="N", help="user id of the account")
        parser.set_defaults(run=run)
    delete = actions.add_parser("delete", help="delete a group that is nobody's primary one")
    _add_gid(delete)
    delete.set_defaults(run=run_delete)


def _add_gid(parser: argparse.ArgumentParser) -> None:
    add_data_dir(parser)
    parser.add_argument("--gid", type=identity, required=True, metavar="N", help="group id")


def run_create(arguments: argparse.Namespace) -> int:
    """Prints nothing. Raises GroupExists, AccountInvalid."""
    with accounts_of(arguments) as accounts:
        accounts.create_group(arguments.gid, arguments.name)
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """A line for each group, by gid."""
    with accounts_of(arguments) as accounts:
        found = accounts.list_groups()
    if arguments.json:
        json_lines(asdict(group) for group in found)
        return 0
    rows = [(group.gid, ",".join(map(str, group.members)) or None, group.name) for group in found]
    table(("GID", "UIDS", "NAME"), rows)
    return 0


def run_rename(arguments: argparse.Namespace) -> int:
    """Prints nothing. Raises GroupUnknown, AccountInvalid."""
    with accounts_of(arguments) as accounts:
        accounts.rename_group(arguments.gid, arguments.name)
    return 0


def run_add(arguments: argparse.Namespace) -> int:
    """Prints nothing. Raises GroupUnknown, AccountUnknown."""
    with accounts_of(arguments) as accounts:
        accounts.add_member(arguments.gid, arguments.uid)
    return 0


def run_remove(arguments: argparse.Namespace) -> int:
    """Prints nothing. Raises GroupUnknown, AccountUnknown, GroupInUse."""
    with accounts_of(arguments) as accounts:
        accounts.remove_member(arguments.gid, arguments.uid)
    return 0


def run_delete(arguments: argparse.Namespace) -> int:
    """Prints nothing. Raises GroupUnknown, GroupInUse."""
    with accounts_of(arguments) as accounts:
        accounts.delete_group(arguments.gid)
    return 0
