"""Processes that change the accounts and are killed: what was printed is there, and nothing is there by half."""

import random
import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from storage.sql.accounts import AccountStore
from tests.accounts.conftest import Place

ROOT = Path(__file__).parent.parent.parent
ROUNDS = 3
SCRIPT = """
import sys
from storage.sql.accounts import AccountStore, Quota
store = AccountStore(sys.argv[1])
for uid in range(int(sys.argv[2]), 1 << 30):
    print(uid, store.create_account(uid, (uid, 70)), flush=True)
    store.change_quota(uid, {"spaces": uid})
    if uid % 3 == 0:
        store.delete_account(uid)
        print(uid, "deleted", flush=True)
"""


def test_what_was_acknowledged_outlives_a_kill(accounts: AccountStore, place: Place, seed: int) -> None:
    chance = random.Random(seed)
    tokens: dict[int, str] = {}
    unsure: set[int] = set()
    for turn in range(ROUNDS):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, place.url, str(1 + turn * 10_000)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(chance.randrange(1, 30))]
        process.kill()
        rest, _ = process.communicate(timeout=60)
        whole = "".join(lines) + rest
        last = 0
        for line in whole[: whole.rfind("\n") + 1].splitlines():
            number_said, said = line.split()
            last = int(number_said)
            if said == "deleted":
                del tokens[last]
            else:
                tokens[last] = said
        unsure |= {last, last + 1}
    listed = {account.uid: account for account in accounts.list_accounts()}
    for uid, token in tokens.items():
        grant = accounts.authenticate(token)
        if grant is None:
            assert uid in unsure
            assert uid % 3 == 0, "deleted, and killed before it said so"
        else:
            assert grant.account == listed[uid]
            assert listed[uid].quota.spaces == uid or uid in unsure
    assert set(listed) <= set(tokens) | unsure
    assert all(account.gids == (account.uid, 70) for account in listed.values())
    created = [entry.target for entry in accounts.journal.query(call="account create")]
    deleted = [entry.target for entry in accounts.journal.query(call="account delete")]
    assert len(created) - len(deleted) == len(listed) == len(accounts.list_tokens())
    engine = place.engine()
    with engine.connect() as connection:
        if place.kind == "sqlite":
            assert connection.scalar(text("PRAGMA integrity_check")) == "ok"
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
        number_of_changes = connection.scalar(text("SELECT number FROM account_version"))
        entries = connection.scalar(text("SELECT count(*) FROM audit"))
    engine.dispose()
    assert number_of_changes == 1 + (entries or 0), "a change and its entry are one"
