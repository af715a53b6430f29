"""`everspaced quota set|show`: what accounts may own and ask for at most. With effect at once."""

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from app.commands.options import Commands, accounts_of, add_data_dir, add_json, identity, json_lines, table
from app.sizes import size_of
from storage.errors import AccountInvalid, AccountUnknown

if TYPE_CHECKING:
    from storage.sql.accounts import Quota

LIMITS: Final = (
    ("spaces", "spaces that it may own"),
    ("segments", "segments that it may own"),
    ("bytes", "bytes of pages that may be kept for what it owns, like 1073741824, 512M or 10GiB"),
    ("tasks", "tasks that it may have"),
    ("rate", "requests a second"),
)
NONE: Final = "none"


def add_to(commands: Commands) -> None:
    """The command's options."""
    actions = commands.add_parser("quota", help="limit what accounts may own and ask for").add_subparsers(
        dest="action", metavar="ACTION", required=True
    )
    setting = actions.add_parser("set", help="set or lift limits of an account; the others stay")
    add_data_dir(setting)
    setting.add_argument("--uid", type=identity, required=True, metavar="N", help="user id of the account")
    for name, text in LIMITS:
        setting.add_argument(f"--{name}", metavar="N", help=f"{text}; {NONE} lifts the limit")
    setting.set_defaults(run=run_set)
    show = actions.add_parser("show", help="print the limits of one account, or of all that have any")
    add_data_dir(show)
    add_json(show)
    show.add_argument("--uid", type=identity, metavar="N", help="user id of the account")
    show.set_defaults(run=run_show)


def run_set(arguments: argparse.Namespace) -> int:
    """Prints the whole quota as it is then. Raises AccountUnknown, AccountInvalid."""
    limits = {
        name: _limit(name, getattr(arguments, name))
        for name, _ in LIMITS
        if getattr(arguments, name) is not None
    }
    if not limits:
        raise AccountInvalid(f"quota set needs one or more of {', '.join(f'--{name}' for name, _ in LIMITS)}")
    with accounts_of(arguments) as accounts:
        quota = accounts.change_quota(arguments.uid, limits)
    _show({arguments.uid: quota})
    return 0


def run_show(arguments: argparse.Namespace) -> int:
    """A line for each account, by uid. Raises AccountUnknown."""
    with accounts_of(arguments) as accounts:
        if arguments.uid is None:
            _show(accounts.quotas(), as_json=arguments.json)
            return 0
        found = {account.uid: account.quota for account in accounts.list_accounts()}
    if arguments.uid not in found:
        raise AccountUnknown(f"no account has uid {arguments.uid}")
    _show({arguments.uid: found[arguments.uid]}, as_json=arguments.json)
    return 0


def _limit(name: str, text: str) -> int | None:
    if text == NONE:
        return None
    limit = size_of(text) if name == "bytes" or text.isdigit() else None
    if limit is None:
        like = " like 512M or 10GiB" if name == "bytes" else ""
        raise AccountInvalid(f"--{name}: {text!r:.40} is neither a number{like} nor {NONE}")
    return limit


def _show(quotas: "dict[int, Quota]", *, as_json: bool = False) -> None:
    if as_json:
        json_lines({"uid": uid, **asdict(quota)} for uid, quota in sorted(quotas.items()))
        return
    rows = []
    for uid, quota in sorted(quotas.items()):
        limits = [getattr(quota, name) for name, _ in LIMITS]
        rows.append((uid, *(NONE if limit is None else limit for limit in limits)))
    table(("UID", *(name.upper() for name, _ in LIMITS)), rows)
