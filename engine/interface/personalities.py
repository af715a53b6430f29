"""Views (mmview, both interfaces) and slots (multias)."""

from engine.credentials import Credentials
from engine.errors import EINVAL
from engine.interface.parts import Parts
from engine.tasks import mmview, multias


class PersonalityCalls(Parts):
    """The calls of mmview and multias. Credentials come first, then the thread. ESRCH, EPERM as all calls of tasks."""

    def mmview(self, cred: Credentials, pid: int, tid: int | None, op: int, *args: int) -> int:
        """See `mmview.mmview`: MMVIEW_CREATE 0, DELETE 1, CURRENT 2, MIGRATE 3, UNSHARE 4, SHARE 5, SWITCH_BASE 6."""
        return mmview.mmview(self.tasks_table.thread_of(cred, pid, tid), op, *args)

    def mmview_create(self, cred: Credentials, pid: int, tid: int | None) -> int:
        """See `mmview.create`; the old interface."""
        return mmview.create(self.tasks_table.thread_of(cred, pid, tid))

    def mmview_migrate(self, cred: Credentials, pid: int, tid: int | None, number: int) -> int:
        """See `mmview.migrate`; a negative number asks for the current one. The old interface."""
        return mmview.migrate_or_ask(self.tasks_table.thread_of(cred, pid, tid), number)

    def mmview_delete(self, cred: Credentials, pid: int, tid: int | None, number: int) -> None:
        """See `mmview.delete`; the old interface. EINVAL: the base, too."""
        mmview.delete(self.tasks_table.thread_of(cred, pid, tid), number, errno_of_base=EINVAL)

    def mmview_unshare(self, cred: Credentials, pid: int, tid: int | None, addr: int, length: int) -> None:
        """See `mmview.unshare`; the old interface."""
        mmview.unshare(self.tasks_table.thread_of(cred, pid, tid), addr, length)

    def new_as(self, cred: Credentials, pid: int, tid: int | None) -> int:
        """See `multias.new_as`."""
        return multias.new_as(self.tasks_table.thread_of(cred, pid, tid))

    def switch_as(self, cred: Credentials, pid: int, tid: int | None, number: int) -> None:
        """See `multias.switch_as`."""
        multias.switch_as(self.tasks_table.thread_of(cred, pid, tid), number)
