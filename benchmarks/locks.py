"""A lock that passes between two clients who both wait for it, against what the two requests of a turn cost by themselves."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import everspace
from benchmarks.pairs import Measure, Pair, per_operation
from benchmarks.wire import Connection, echo_service
from examples.service import Service

TURNS = 100
CLIENTS = 2


def racing(turns: list[Callable[[], None]]) -> Measure:
    """Everybody takes `TURNS` turns, all at once: seconds from one turn to the next."""

    def measure() -> float:
        def work() -> None:
            threads = [threading.Thread(target=repeat, args=(turn,)) for turn in turns]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        return per_operation(work, TURNS * len(turns))

    return measure


def repeat(turn: Callable[[], None]) -> None:
    """One client's turns."""
    for _ in range(TURNS):
        turn()


def switching(task: everspace.Task, vid: int) -> Callable[[], None]:
    """Into a lockable space, waiting for its lock, and out of it."""

    def turn() -> None:
        task.vas_switch(vid)
        task.vas_switch(0)

    return turn


def asking(port: int) -> Callable[[], None]:
    """As many requests, answered at once."""
    connection = Connection(port, "/echo?value=8")

    def turn() -> None:
        connection.ask()
        connection.ask()

    return turn


@contextmanager
def pairs(folder: Path) -> Iterator[list[Pair]]:
    """A service in `folder`, and two clients of it."""
    service = Service(folder / "locks")
    service.start()
    try:
        with ExitStack() as stack:
            port = stack.enter_context(echo_service())
            tasks = []
            for number in range(CLIENTS):
                client = stack.enter_context(everspace.connect(service.url, service.token))
                tasks.append(stack.enter_context(client.spawn(name=f"client {number}", lease=600.0)))
            vid = tasks[0].vas_create("locked", 0o600, sharing="lockable")
            for task in tasks:
                task.vas_attach(0, vid, everspace.O_RDWR)
            yield [
                Pair(
                    "a lock passes between two clients, HTTP",
                    "two requests each, FastAPI echo, nobody waits",
                    racing([switching(task, vid) for task in tasks]),
                    racing([asking(port) for _ in tasks]),
                )
            ]
    finally:
        service.stop()
