"""Short words for mmview's operations, as its tests use them."""

from everspace import MMVIEW_CREATE, MMVIEW_CURRENT, MMVIEW_MIGRATE, MMVIEW_UNSHARE
from tests.conformance.support.calls import PAGE, Calls
from tests.conformance.support.memory import at


def create(task: Calls) -> int:
    """A new view; its id."""
    return task.mmview(MMVIEW_CREATE)


def go(task: Calls, view: int) -> int:
    """Migrate; the view before."""
    return task.mmview(MMVIEW_MIGRATE, view)


def here(task: Calls) -> int:
    """The current view."""
    return task.mmview(MMVIEW_CURRENT)


def unshare(task: Calls, page: int, count: int = 1) -> int:
    """Make pages of the window private to each view."""
    return task.mmview(MMVIEW_UNSHARE, at(page), count * PAGE)
