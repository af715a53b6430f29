"""All personalities on one machine (personalities.py), and that what is broken on purpose is found."""

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from engine.constants import MMVIEW_CREATE, MMVIEW_MIGRATE, MMVIEW_UNSHARE
from engine.tasks import mmview
from engine.tasks.task import Task, Thread
from tests.engine.host import FIXED, PRIVATE, RW
from tests.engine.model_personalities import Cell, TaskModel
from tests.engine.personalities import PAGE, TASK_START, Personalities

STEPS = settings(
    max_examples=60,
    stateful_step_count=50,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

TestPersonalities = Personalities.TestCase
TestPersonalities.settings = STEPS


class WithViews(Personalities):
    """Begins with a task in its second view, which differs from the base."""

    def __init__(self) -> None:
        super().__init__()
        pid = self.host.task()
        self.host.do("mmap", pid, None, TASK_START, 2 * PAGE, RW, PRIVATE | FIXED)
        self.host.do("mmview", pid, None, MMVIEW_UNSHARE, TASK_START, 2 * PAGE)
        view = self.host.do("mmview", pid, None, MMVIEW_CREATE)
        self.host.do("mmview", pid, None, MMVIEW_MIGRATE, view)
        self.host.do("write", pid, None, TASK_START, b"\7")
        self.tasks[pid] = TaskModel(
            {0: {0: Cell(), 1: Cell()}, view: {0: Cell(7), 1: Cell()}},
            {pid: [view, 0]},
            "views",
            next_view=view + 1,
            unshared={0, 1},
        )


def copies_the_base(thread: Thread) -> int:
    """A view that is made of the base, not of the view that the thread is in."""
    task = thread.task
    there = thread.view
    thread.view = task.base
    try:
        return mmview.create(thread)
    finally:
        thread.view = there


@pytest.mark.parametrize("canary", ["views are made of the base", "deleted views stay"])
def test_a_canary_is_caught(canary: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if canary == "views are made of the base":
        monkeypatch.setitem(mmview._OPERATIONS, MMVIEW_CREATE, (copies_the_base, 0))
    else:
        monkeypatch.setattr(Task, "forget_if_unused", lambda task, view: None)
    quick = settings(STEPS, max_examples=600, database=None, phases=[Phase.generate])
    with pytest.raises(AssertionError):
        run_state_machine_as_test(WithViews, settings=quick)
