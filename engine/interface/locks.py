"""Waiting for the locks of lockable spaces and segments, and looking at them."""

from engine.credentials import Credentials
from engine.interface.parts import Parts
from engine.spaces.locks import LockStatus, Ticket
from engine.tasks.task import Thread


class LockCalls(Parts):
    """The calls about locks. Credentials come first."""

    def vas_switch_or_queue(
        self, cred: Credentials, pid: int, tid: int | None, vid: int, ticket: Ticket
    ) -> bool:
        """vas_switch, or a place in the queue for `ticket`; whether the thread has switched. ESRCH, EPERM, EINVAL.

        EBUSY: the thread waits already, or those it would wait for wait for it.
        """
        thread = self.tasks_table.thread_of(cred, pid, tid)
        if self.locks.is_free(thread, vid):
            self._enter(thread, vid)
            return True
        self.locks.queue(thread, vid, ticket)
        return False

    def vas_switch_in_turn(self, ticket: Ticket) -> bool:
        """Switch who holds the place, if it is his turn; whether it was. ESRCH: he has ended; EINVAL: not attached any more."""
        thread = self.locks.thread_of(ticket)
        if not self.locks.is_free(thread, ticket.vid, ticket):
            return False
        self._enter(thread, ticket.vid)
        self.locks.granted(ticket)
        return True

    def lock_status(self, cred: Credentials, vid: int) -> tuple[LockStatus, ...]:
        """Who holds and who waits for the locks of a space and of its segments; needs no permission. EINVAL: unknown."""
        return self.locks.status(vid)

    def _enter(self, thread: Thread, vid: int) -> None:
        if vid != thread.active:
            thread.switch(vid)
            self.journal.note(
                "thread.switched", pid=thread.task.pid, tid=thread.tid, uid=thread.task.cred.uid, vid=vid
            )
