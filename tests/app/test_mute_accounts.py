"""Accounts that take a question and never answer it: what does not need them goes on, and the service can end."""

import asyncio
import gc
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from app.accounts.threads import Threads
from storage.sql.audit import AuditRecord
from tests.app.support import Site, running, until

LONG_S = 30.0
"""Long enough for everything that ends."""


class Mute:
    """Accounts and journal that say nothing until `speak` is set."""

    def __init__(self) -> None:
        self.speak = threading.Event()
        self.asked = 0
        """For the quotas."""

    def authenticate(self, token: str) -> None:
        self.speak.wait()

    def quotas(self) -> dict[int, Any]:
        self.asked += 1
        self.speak.wait()
        return {}

    def data_version(self) -> int | None:
        return None

    def append(self, records: Sequence[AuditRecord]) -> None:
        self.speak.wait()

    def query(self, **wanted: Any) -> list[Any]:
        self.speak.wait()
        return []


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mute]:
    """Nobody waits for it for long."""
    monkeypatch.setattr("app.accounts.auth.ANSWER_S", 0.05)
    monkeypatch.setattr("app.accounts.auditing.CLOSE_S", 0.05)
    found = Mute()
    yield found
    found.speak.set()


async def test_they_keep_no_thread_of_others(site: Site, mute: Mute) -> None:
    site.service.authenticator._accounts = mute
    site.service.auditing._journal = mute
    async with asyncio.timeout(LONG_S):
        asked = (site.send("GET", "/v1/vas", token=f"evs_{number}") for number in range(50))
        assert {answer.status for answer in await asyncio.gather(*asked)} == {503}
        assert await asyncio.to_thread(threading.active_count) > 0


async def test_who_waits_for_the_quotas_waits_for_no_other(site: Site, mute: Mute) -> None:
    site.service.authenticator._accounts = mute
    async with asyncio.timeout(LONG_S):
        asked = (site.send("GET", "/v1/vas", token=f"evs_{number}") for number in range(20))
        assert {answer.status for answer in await asyncio.gather(*asked)} == {503}
    assert mute.asked < 20, "one after the other, each for as long as the one before"


async def test_the_journal_is_asked_in_vain(site: Site, mute: Mute) -> None:
    site.service.auditing._journal = mute
    async with asyncio.timeout(LONG_S):
        answer = await site.call("GET", "/audit")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert (await site.call("GET", "/vas")).status == 200


async def test_a_group_that_nobody_waits_for_is_written_once(site: Site, mute: Mute) -> None:
    auditing = site.service.auditing
    written: list[str] = []

    def append(records: Sequence[AuditRecord]) -> None:
        mute.speak.wait()
        written.extend(record.target for record in records)

    auditing._journal = mute
    mute.append = append  # type: ignore[method-assign]
    await site.call("GET", "/vas/99")
    async with asyncio.timeout(LONG_S):
        for _ in range(3):
            assert (await site.call("GET", "/audit")).status == 503
        mute.speak.set()
        assert await auditing.flush()
    assert written.count("/v1/vas/99") == 1


async def test_the_service_ends(tmp_path: Path, mute: Mute, caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.timeout(LONG_S), running(tmp_path / "data") as site:
        await site.call("GET", "/vas/99")
        site.service.auditing._journal = mute
        site.service.authenticator._accounts = mute
        await site.call("GET", "/vas")
    assert any("are lost" in record.message for record in caplog.records)


async def test_threads_end_with_what_they_are_of() -> None:
    threads = Threads(3, "some-threads")
    assert await asyncio.gather(*(threads.run(partial(abs, -each)) for each in range(9))) == [*range(9)]
    with pytest.raises(ValueError, match="abc"):
        await threads.run(partial(int, "abc"))
    mine = [each for each in threading.enumerate() if each.name == "some-threads"]
    assert 1 <= len(mine) <= 3
    assert all(each.daemon for each in mine)
    del threads
    await until(lambda: gc.collect() >= 0 and not any(each.is_alive() for each in mine))
