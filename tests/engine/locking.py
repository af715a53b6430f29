"""Tasks that want into lockable spaces, and the queue in which they wait, as the service has it."""

import pytest

from engine.errors import EngineError
from engine.spaces.locks import Ticket
from tests.engine.host import Host

RO, WO, READ_WRITE = 0, 1, 2


class Queue:
    """Waiters by name, as the service has them."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.tickets: dict[str, Ticket] = {}
        self.told = 0
        host.machine.locks.on_change.append(self._tell)

    def _tell(self) -> None:
        self.told += 1

    def enter(self, name: str, pid: int, vid: int, tid: int | None = None) -> bool:
        """Switch or wait; whether the thread is inside."""
        ticket = Ticket()
        inside: bool = self.host.do("vas_switch_or_queue", pid, tid, vid, ticket)
        if not inside:
            self.tickets[name] = ticket
        return inside

    def refused(self, pid: int, vid: int, tid: int | None = None) -> EngineError:
        """What waiting is refused with."""
        with pytest.raises(EngineError) as refused:
            self.host.do("vas_switch_or_queue", pid, tid, vid, Ticket())
        return refused.value

    def served(self) -> str:
        """The waiters who get in now, in order; those who wait in vain as "name:ERRNO"."""
        served = []
        while ready := self.host.machine.locks.ready():
            name = next(name for name, ticket in self.tickets.items() if ticket is ready[0])
            ticket = self.tickets.pop(name)
            try:
                with self.host.machine.transaction() as txn:
                    assert self.host.machine.vas_switch_in_turn(ticket)
                self.host.settle(txn)
            except EngineError as error:
                name += f":{error.errno}"
                self.host.machine.locks.leave(ticket)
            served.append(name)
        return " ".join(served)

    def leave(self, name: str) -> None:
        self.host.machine.locks.leave(self.tickets.pop(name))


def lockable(host: Host, name: str = "space") -> int:
    return host.space(name, sharing="lockable")


def with_segments(host: Host, name: str, *segments: tuple[int, int], sharing: str = "shared") -> int:
    """A space with segments of given types."""
    vid = host.space(name, sharing=sharing)
    for sid, type in segments:
        host.do("vas_seg_attach", vid, sid, type)
    return vid


def tasks(host: Host, *spaces: tuple[int, int], count: int = 1) -> list[int]:
    """Tasks that have spaces attached, of given types."""
    pids = [host.task() for _ in range(count)]
    for pid in pids:
        for vid, type in spaces:
            host.do("vas_attach", pid, vid, type)
    return pids


def active(host: Host, pid: int, tid: int | None = None) -> int:
    vid: int = host.do("active_vas", pid, tid)
    return vid
