"""What observers of the gate are told of an exchange."""

from pathlib import Path

from app.gate import Observer
from app.http.exchange import Exchange
from tests.app.support import Site, running


class Watcher:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, str | None, int]] = []

    def __call__(self, exchange: Exchange, seconds: float) -> None:
        assert seconds >= 0
        self.told.append((exchange.operation, exchange.status, exchange.errno, exchange.cred.uid))


def watched(site: Site) -> Watcher:
    watcher = Watcher()
    site.app.observers.append(watcher)
    return watcher


async def test_each_exchange_is_told_once_with_its_operation(site: Site) -> None:
    pid, vid = await site.inside()
    watcher = watched(site)
    await site.write(pid, 0x1000_0000_0000, b"bytes")
    await site.read(pid, 0x1000_0000_0000, 5)
    await site.call("GET", f"/vas/{vid}")
    assert watcher.told == [("write", 204, None, 0), ("read", 200, None, 0), ("vas_getattr", 200, None, 0)]


async def test_refusals_are_told_with_their_errno_wherever_they_arise(site: Site) -> None:
    pid = await site.task()
    watcher = watched(site)
    await site.read(pid, 0x1000_0000_0000, 5)
    await site.call("GET", "/vas/99")
    await site.call("POST", "/vas", {"name": 5})
    await site.send("GET", "/v1/vas", token="wrong")
    await site.send("GET", "/v1/nowhere")
    await site.send("DELETE", f"/v1/tasks/{pid}/memory")
    assert watcher.told == [
        ("read", 422, "EFAULT", 0),
        ("vas_getattr", 400, "EINVAL", 0),
        ("vas_create", 400, "EINVAL", 0),
        ("vas_find", 401, None, 2**32 - 1),
        ("", 404, None, 0),
        ("", 405, None, 0),
    ]


async def test_a_client_that_leaves_is_told_without_a_status(site: Site) -> None:
    pid = await site.task()
    watcher = watched(site)
    await site.send("PUT", f"/v1/tasks/{pid}/memory?addr=0x1000", [b"x"], hang_up=True)
    assert watcher.told == [("write", 0, None, 0)]


async def test_an_observer_that_fails_stops_nobody(tmp_path: Path) -> None:
    def broken(exchange: Exchange, seconds: float) -> None:
        raise RuntimeError("broken")

    async with running(tmp_path / "data") as site:
        observers: list[Observer] = site.app.observers
        observers.append(broken)
        watcher = watched(site)
        assert (await site.call("GET", "/vas")).status == 200
        assert [told[0] for told in watcher.told] == ["vas_find"]
