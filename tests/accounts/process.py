"""One of several processes at the accounts: `python -m tests.accounts.process URL WHAT NUMBER ROUNDS`.

Prints a line for each thing that it did. Whatever it is not told to expect ends it with a traceback.
"""

import sys
from collections.abc import Callable

from storage.errors import AccountError
from storage.sql.accounts import AccountStore
from storage.sql.audit import of_command

SHARED = 7


def main() -> None:
    """Do WHAT, ROUNDS times."""
    url, what, number, rounds = sys.argv[1:]
    store = AccountStore(url)
    store.migrate()
    for turn in range(int(rounds)):
        try:
            WORK[what](store, int(number), turn)
        except AccountError as refused:
            print(type(refused).__name__)
        else:
            print("done")
    store.close()


def _create(store: AccountStore, number: int, turn: int) -> None:
    """Every process wants the same uids, in groups that are new to all."""
    store.create_account(1000 + turn, (1000 + turn, 5000 + turn % 3))


def _token(store: AccountStore, number: int, turn: int) -> None:
    token = store.create_token(SHARED)
    grant = store.authenticate(token)
    if grant is None:
        raise RuntimeError("a token that was just made is refused")
    store.revoke_token(grant.token_id)
    if store.authenticate(token) is not None:
        raise RuntimeError("a revoked token holds")


def _quota(store: AccountStore, number: int, turn: int) -> None:
    """Each process has one limit to itself: nobody's change may undo another's."""
    name = ("spaces", "segments", "bytes", "tasks")[number % 4]
    quota = store.change_quota(SHARED, {name: turn})
    if getattr(quota, name) != turn:
        raise RuntimeError(f"{name} is {quota}")


def _member(store: AccountStore, number: int, turn: int) -> None:
    gid = 6000 + number
    if turn == 0:
        store.create_group(gid)
    else:
        (store.add_member if turn % 2 else store.remove_member)(gid, SHARED)


def _replace(store: AccountStore, number: int, turn: int) -> None:
    """Delete and make the same account, against the others who do so too."""
    if turn % 2:
        store.delete_account(2000)
    else:
        store.create_account(2000, (2000,))


def _journal(store: AccountStore, number: int, turn: int) -> None:
    store.journal.append(of_command("test", f"{number} {turn} {part}") for part in range(10))


WORK: dict[str, Callable[[AccountStore, int, int], None]] = {
    "create": _create,
    "token": _token,
    "quota": _quota,
    "member": _member,
    "replace": _replace,
    "journal": _journal,
}

if __name__ == "__main__":
    main()
