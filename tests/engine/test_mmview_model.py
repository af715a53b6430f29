"""Random histories of views agree with the naive model, and a broken engine does not."""

from collections.abc import Callable

import pytest

from engine.calls import mprotect
from engine.credentials import Credentials
from engine.geometry import TOY, X86_64, Geometry
from engine.journal import Journal
from engine.memory.memory_object import MemoryObject
from engine.memory.paged_memory import PagedMemory
from engine.regions import copying, moving
from engine.regions.address_space import AddressSpace, map_all
from engine.tasks import mmview
from engine.tasks.task import Task, Thread, View
from engine.tasks.tasks import Tasks
from tests.engine.views_model import Views, run

STEPS = 200
MEMORIES = ((256, 0), (24, 64))


@pytest.mark.parametrize("fixed_seed", range(6))
def test_known_histories_agree_with_the_model(fixed_seed: int, geometry: Geometry) -> None:
    run(Views(fixed_seed, geometry, *MEMORIES[fixed_seed % 2]), STEPS)


def test_new_histories_agree_with_the_model(seed: int, geometry: Geometry) -> None:
    run(Views(seed, geometry, *MEMORIES[seed % 2]), STEPS)


# -- canaries: views that are broken on purpose are found out -------------------------------------------------------

Patch = Callable[[pytest.MonkeyPatch], None]


def views_share_what_is_unshared(patch: pytest.MonkeyPatch) -> None:
    def clone_private(source: AddressSpace, child: AddressSpace) -> None:
        child.private = source.private

    patch.setattr(copying, "_clone_private", clone_private)


def views_have_memory_of_their_own(patch: pytest.MonkeyPatch) -> None:
    def new_view(source: AddressSpace) -> AddressSpace:
        copy = AddressSpace(source.geometry, source.memory.clone(), source.label, source.places)
        copying.copy_into(source, copy)
        source.views.append(copy)
        copy.views = source.views
        return copy

    patch.setattr(mmview, "new_view", new_view)


def one_view_maps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("engine.regions.address_space.map_all", lambda placed: map_all(placed[:1]))


def one_view_unmaps(patch: pytest.MonkeyPatch) -> None:
    def unmap(owner: AddressSpace, start: int, end: int) -> None:
        gone = owner.vmas.overlapping(start, end)
        owner.vmas.replace(start, end, ())
        owner._unmapped(gone, start, end)

    patch.setattr(AddressSpace, "unmap", unmap)


def rights_of_unshared_memory_are_everybody_s(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("engine.regions.address_space.UNSHARED", 0)


def mixtures_may_be_protected(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mprotect, "_refuse_mixture", lambda seen, start, end: None)


def other_views_keep_their_translations(patch: pytest.MonkeyPatch) -> None:
    def zap_object(owner: AddressSpace, obj: PagedMemory, first: int, count: int) -> None:
        if owner is owner.views[0]:
            real(owner, obj, first, count)

    real = AddressSpace.zap_object
    patch.setattr(AddressSpace, "zap_object", zap_object)


def unshared_pages_stay_behind_in_other_views(patch: pytest.MonkeyPatch) -> None:
    real = moving._own_memory
    patch.setattr(moving, "_own_memory", lambda owner, vma: real(owner, vma)[:1])


def deleted_views_stay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Task, "forget_if_unused", lambda task, view: None)


def deleted_views_go_at_once(patch: pytest.MonkeyPatch) -> None:
    real = Task.forget_if_unused

    def forget(task: Task, view: View) -> None:
        threads, task.threads = task.threads, {}
        real(task, view)
        task.threads = threads

    patch.setattr(Task, "forget_if_unused", forget)


def unsharing_leaves_the_pages(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mmview, "_hand_over", lambda source, target, first, count: None)


def pages_that_were_handed_over_do_not_come_back(patch: pytest.MonkeyPatch) -> None:
    real = mmview._hand_over

    def hand_over(source: MemoryObject, target: MemoryObject, first: int, count: int) -> None:
        journal, source.journal = source.journal, Journal()
        real(source, target, first, count)
        source.journal = journal

    patch.setattr(mmview, "_hand_over", hand_over)


def forks_forget_what_is_unshared(patch: pytest.MonkeyPatch) -> None:
    real = copying.copy_into

    def copy_into(source: AddressSpace, child: AddressSpace) -> None:
        private, source.private = source.private, None
        real(source, child)
        source.private = private

    patch.setattr("engine.tasks.tasks.copy_into", copy_into)


def threads_that_migrate_leave_their_space(patch: pytest.MonkeyPatch) -> None:
    def migrate(thread: Thread, view: View) -> None:
        thread.switch(0)
        real(thread, view)

    real = Thread.migrate
    patch.setattr(Thread, "migrate", migrate)


def new_threads_start_in_the_base(patch: pytest.MonkeyPatch) -> None:
    real = Tasks.new_thread

    def new_thread(tasks: Tasks, cred: Credentials, pid: int, tid: int | None) -> int:
        return real(tasks, cred, pid, None)

    patch.setattr(Tasks, "new_thread", new_thread)


CANARIES: tuple[Patch, ...] = (
    views_share_what_is_unshared,
    views_have_memory_of_their_own,
    one_view_maps,
    one_view_unmaps,
    rights_of_unshared_memory_are_everybody_s,
    mixtures_may_be_protected,
    other_views_keep_their_translations,
    unshared_pages_stay_behind_in_other_views,
    deleted_views_stay,
    deleted_views_go_at_once,
    unsharing_leaves_the_pages,
    pages_that_were_handed_over_do_not_come_back,
    forks_forget_what_is_unshared,
    threads_that_migrate_leave_their_space,
    new_threads_start_in_the_base,
)


@pytest.mark.parametrize("break_it", CANARIES, ids=lambda it: getattr(it, "__name__", ""))
def test_broken_views_are_caught(break_it: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    break_it(monkeypatch)
    with pytest.raises(Exception) as caught:
        for number in range(40):
            run(Views(number, (TOY, X86_64)[number % 2], *MEMORIES[number // 2 % 2]), STEPS)
    assert str(caught.value)
