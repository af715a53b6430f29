"""Several processes at one database: none fails for the others, and what they did is all there."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sqlalchemy import text

from storage.errors import AccountExists
from storage.sql.accounts import AccountStore, Quota
from tests.accounts.conftest import Place
from tests.accounts.process import SHARED
from tests.accounts.support import bearer

ROOT = Path(__file__).parent.parent.parent
PROCESSES, ROUNDS = 3, 8


def together(place: Place, *work: str) -> Counter[str]:
    """Run a process for each piece of work, all at once; how often each said what."""
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.accounts.process", place.url, what, str(number), str(ROUNDS)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, what in enumerate(work)
    ]
    said: Counter[str] = Counter()
    for process in running:
        out, err = process.communicate(timeout=100)
        assert (process.returncode, err) == (0, ""), err
        said.update(out.split())
    return said


def test_a_database_is_migrated_once_by_those_who_come_at_once(
    empty: Place, opened: Callable[[Place], AccountStore]
) -> None:
    assert together(empty, *["create"] * PROCESSES) == {
        "done": ROUNDS,
        "AccountExists": (PROCESSES - 1) * ROUNDS,
    }
    store = opened(empty)
    assert [account.uid for account in store.list_accounts()] == [1000 + turn for turn in range(ROUNDS)]
    assert len(store.list_tokens()) == ROUNDS
    journal = Counter(entry.errno for entry in store.journal.query())
    assert journal == {None: ROUNDS, "EEXIST": (PROCESSES - 1) * ROUNDS}


def test_all_kinds_of_changes_at_once(accounts: AccountStore, place: Place) -> None:
    token = accounts.create_account(SHARED, (SHARED,), "ada")
    before = accounts.data_version()
    work = ("quota", "quota", "token", "member", "replace", "replace", "journal")
    said = together(place, *work)
    assert said["done"] + said["AccountUnknown"] + said["AccountExists"] == len(work) * ROUNDS
    assert said["done"] >= (len(work) - 2) * ROUNDS
    assert bearer(accounts, token).quota == Quota(spaces=7, segments=7)
    assert bearer(accounts, token).gids == (SHARED, 6003)
    assert len([row for row in accounts.list_tokens() if row.uid == SHARED and row.revoked is None]) == 1
    entries = accounts.journal.query()
    assert len([entry for entry in entries if entry.call == "test"]) == 10 * ROUNDS
    changes = [entry for entry in entries if entry.call != "test"]
    assert len(changes) == 1 + (len(work) - 1) * ROUNDS + ROUNDS, "a token is made and revoked"
    if before is not None:
        now = accounts.data_version()
        assert now is not None
        assert now - before == len([entry for entry in changes if entry.errno is None]) - 1
    engine = place.engine()
    with engine.connect() as connection:
        lost = "SELECT count(*) FROM account_groups WHERE gid NOT IN (SELECT gid FROM groups)"
        assert connection.scalar(text(lost)) == 0
    engine.dispose()


def test_concurrent_threads_get_one_account(accounts: AccountStore) -> None:
    def create(_: int) -> bool:
        try:
            accounts.create_account(7, (7,))
        except AccountExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(16))) == 1
    assert len(accounts.list_tokens()) == 1
