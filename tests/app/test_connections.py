"""Connections: a defect of one is not that of others, and what listeners hand on to those they accept."""

import asyncio
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.serving import server
from app.serving.connections import Bounds, Connection, Connections, Outgoing
from app.settings import Settings


class Fake(Connection):
    """A connection of which only the look counts."""

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails
        self.looks = 0
        self.aborted = False

    def look(self, now: float) -> None:
        self.looks += 1
        if self.fails:
            raise AttributeError("a defect")

    def abort(self) -> None:
        self.aborted = True


def bounds(**options: int) -> Bounds:
    return Bounds.of(Settings(data_dir=Path("unused"), **options))  # type: ignore[arg-type]


def test_a_defect_of_one_connection_ends_that_one_alone(caplog: pytest.LogCaptureFixture) -> None:
    everybody = Connections(bounds())
    good, bad = Fake(fails=False), Fake(fails=True)
    for connection in (bad, good):
        assert everybody.admit(connection) is None
    for now in (1.0, 2.0):
        everybody.look(now)
    assert (good.looks, bad.looks) == (2, 1)
    assert (good.aborted, bad.aborted) == (False, True)
    assert everybody.open == {good}
    assert "could not be looked at" in caplog.text


def test_places_are_given_back_once() -> None:
    everybody = Connections(bounds(connections=3, connections_per_peer=2))
    one, two, three, four = (Fake(fails=False) for _ in range(4))
    for connection, peer in ((one, "a"), (two, "a"), (three, "a"), (four, "b")):
        connection.peer = peer
    assert [everybody.admit(each) for each in (one, two, three, four)] == [None, None, "peer", None]
    everybody.leave(three)  # never let in
    assert everybody.admit(three) == "total"
    everybody.leave(one)
    everybody.leave(one)
    assert [everybody.admit(three), everybody.admit(one)] == [None, "total"]


def test_the_kernel_asks_after_silent_peers(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, port=0)
    with ExitStack() as stack:
        (listener,) = map(stack.enter_context, server.bind(settings))
        stack.enter_context(socket.create_connection(listener.getsockname()[:2]))
        accepted = stack.enter_context(listener.accept()[0])
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        for option, value in server.KEEPALIVE:
            assert accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, option)) == value


class Closed(asyncio.Transport):
    """A transport of uvloop whose client has just gone."""

    def is_closing(self) -> bool:
        return True

    def write(self, data: object) -> None:
        raise RuntimeError("the handler is closed")

    def get_write_buffer_size(self) -> int:
        return 7


def test_what_is_written_after_the_end_is_dropped() -> None:
    outgoing = Outgoing(Closed())
    outgoing.write(b"to nobody")
    assert outgoing.get_write_buffer_size() == 7
