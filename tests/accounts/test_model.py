"""Random changes of the accounts beside a naive model of them; after each the two agree."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from storage.errors import AccountError
from storage.sql.accounts import SCOPES, AccountStore, Quota

STEPS = 120
NUMBERS = range(5)
"""Uids and gids: few, so that they meet."""


@dataclass
class Model:
    """Accounts as dictionaries. Each method returns the errno of its refusal, or None."""

    accounts: dict[int, list[int]] = field(default_factory=dict)
    groups: set[int] = field(default_factory=set)
    tokens: dict[str, int] = field(default_factory=dict)
    quotas: dict[int, dict[str, int]] = field(default_factory=dict)

    def create(self, uid: int, gids: list[int]) -> str | None:
        if len(set(gids)) != len(gids) or not gids:
            return "EINVAL"
        if uid in self.accounts:
            return "EEXIST"
        self.accounts[uid] = gids
        self.groups |= set(gids)
        return None

    def delete(self, uid: int) -> str | None:
        if uid == 0:
            return "EINVAL"
        if self.accounts.pop(uid, None) is None:
            return "ENOENT"
        self.tokens = {token: owner for token, owner in self.tokens.items() if owner != uid}
        self.quotas.pop(uid, None)
        return None

    def add(self, gid: int, uid: int) -> str | None:
        if gid not in self.groups or uid not in self.accounts:
            return "ENOENT"
        if gid not in self.accounts[uid]:
            self.accounts[uid].append(gid)
        return None

    def remove(self, gid: int, uid: int) -> str | None:
        if gid not in self.groups or gid not in self.accounts.get(uid, []):
            return "ENOENT"
        if self.accounts[uid][0] == gid:
            return "EBUSY"
        self.accounts[uid].remove(gid)
        return None

    def delete_group(self, gid: int) -> str | None:
        if gid not in self.groups:
            return "ENOENT"
        if any(gids[0] == gid for gids in self.accounts.values()):
            return "EBUSY"
        self.groups.remove(gid)
        for gids in self.accounts.values():
            if gid in gids:
                gids.remove(gid)
        return None

    def quota(self, uid: int, name: str, limit: int | None) -> str | None:
        if uid == 0:
            return "EINVAL"
        if uid not in self.accounts:
            return "ENOENT"
        limits = self.quotas.setdefault(uid, {})
        if limit is None:
            limits.pop(name, None)
        else:
            limits[name] = limit
        if not limits:
            del self.quotas[uid]
        return None


def refusal(call: Callable[[], object]) -> tuple[str | None, object]:
    try:
        return None, call()
    except AccountError as refused:
        return refused.errno, None


def step(chance: random.Random, store: AccountStore, model: Model) -> None:
    """One change of both."""
    uid, gid = chance.choice(NUMBERS), chance.choice(NUMBERS)
    expected: str | None
    match chance.choice(
        ("create", "delete", "add", "add", "remove", "delete_group", "token", "revoke", "quota")
    ):
        case "create":
            gids = chance.choices(NUMBERS, k=chance.randrange(4))
            errno, token = refusal(lambda: store.create_account(uid, gids))
            expected = model.create(uid, gids)
            if isinstance(token, str):
                model.tokens[token] = uid
        case "token":
            errno, token = refusal(lambda: store.create_token(uid))
            expected = None if uid in model.accounts else "ENOENT"
            if isinstance(token, str):
                model.tokens[token] = uid
        case "revoke":
            if not model.tokens:
                return
            gone = chance.choice(list(model.tokens))
            grant = store.authenticate(gone)
            assert grant is not None
            errno, expected = refusal(lambda: store.revoke_token(grant.token_id))[0], None
            del model.tokens[gone]
        case "quota":
            name, limit = chance.choice(("spaces", "tasks", "rate")), chance.choice((None, 1, 2))
            errno, _ = refusal(lambda: store.change_quota(uid, {name: limit}))
            expected = model.quota(uid, name, limit)
        case "delete":
            errno, expected = refusal(lambda: store.delete_account(uid))[0], model.delete(uid)
        case "add":
            errno, expected = refusal(lambda: store.add_member(gid, uid))[0], model.add(gid, uid)
        case "remove":
            errno, expected = refusal(lambda: store.remove_member(gid, uid))[0], model.remove(gid, uid)
        case _:
            errno, expected = refusal(lambda: store.delete_group(gid))[0], model.delete_group(gid)
    assert errno == expected


def test_random_changes(accounts: AccountStore, seed: int) -> None:
    chance = random.Random(seed)
    model = Model()
    ever: set[str] = set()
    for done in range(STEPS):
        before = accounts.data_version()
        step(chance, accounts, model)
        entry = accounts.journal.query(limit=1)
        if before is not None and len(accounts.journal.query()) > done and entry[0].errno is None:
            assert accounts.data_version() != before
        ever |= set(model.tokens)
        assert {account.uid: list(account.gids) for account in accounts.list_accounts()} == model.accounts
        assert {group.gid for group in accounts.list_groups()} == model.groups
        assert accounts.quotas() == {uid: Quota(**limits) for uid, limits in model.quotas.items()}
    for token in ever:
        grant = accounts.authenticate(token)
        assert (grant and grant.account.uid) == model.tokens.get(token)
        assert grant is None or grant.scopes == frozenset(SCOPES)
