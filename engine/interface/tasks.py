"""Tasks and threads: spawn, fork, exec, exit, limits."""

from engine.credentials import Credentials
from engine.interface.parts import Parts
from engine.tasks.tasks import Task
from engine.views import AttachmentStatus, TaskStatus


class TaskCalls(Parts):
    """The calls about tasks. Credentials come first."""

    def spawn(self, cred: Credentials, name: str | None, lease_s: float) -> Task:
        """See `Tasks.spawn`."""
        return self.tasks_table.spawn(cred, name, lease_s)

    def fork(self, cred: Credentials, pid: int, tid: int | None = None) -> Task:
        """See `Tasks.fork`."""
        return self.tasks_table.fork(cred, pid, tid)

    def exec(self, cred: Credentials, pid: int) -> None:
        """See `Tasks.exec`."""
        self.tasks_table.exec(cred, pid)

    def thread(self, cred: Credentials, pid: int, tid: int | None = None) -> int:
        """See `Tasks.new_thread`."""
        return self.tasks_table.new_thread(cred, pid, tid)

    def exit_thread(self, cred: Credentials, pid: int, tid: int) -> None:
        """See `Tasks.exit_thread`."""
        self.tasks_table.exit_thread(cred, pid, tid)

    def exit(self, cred: Credentials, pid: int) -> None:
        """See `Tasks.exit`."""
        self.tasks_table.exit(cred, pid)

    def prlimit(self, cred: Credentials, pid: int, resource: str, value: int | None = None) -> int:
        """See `Tasks.prlimit`."""
        return self.tasks_table.prlimit(cred, pid, resource, value)

    def require_task(self, cred: Credentials, pid: int) -> Task:
        """ESRCH; EPERM: the task is another uid's."""
        return self.tasks_table.require(cred, pid)

    def task_status(self, cred: Credentials, pid: int) -> TaskStatus:
        """Open to everybody. ESRCH."""
        return self.seen(self.tasks_table.get(pid)).status()

    def tasks(self, cred: Credentials) -> list[TaskStatus]:
        """Every task, by pid."""
        return sorted((self.seen(task).status() for task in self.tasks_table), key=lambda status: status.pid)

    def attachment(self, cred: Credentials, pid: int, vid: int) -> AttachmentStatus:
        """ESRCH, EPERM; ENOENT: not attached."""
        held = self.spaces.attachment(cred, pid, vid)
        return AttachmentStatus(held.vid, held.type, held.lazy)
