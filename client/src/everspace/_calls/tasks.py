"""The calls on tasks and threads, and what the service says of itself."""

from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, SupportsIndex

from everspace._calls.call import (
    Call,
    Page,
    TaskState,
    ThreadState,
    given,
    integer,
    no_answer,
    no_value,
    page_of,
    plain_int,
    text,
)
from everspace._calls.spaces import paging, vas_attach, vas_switch
from everspace.errors import VasError
from everspace.models import TaskInfo, Version
from everspace.wire import LEASE_SECONDS_DEFAULT

NO_INSTANCE = "-"
"""Stands for no start of any service."""
Step = tuple[Call[Any], ThreadState]


def spawn(name: str | None = None, lease: float = LEASE_SECONDS_DEFAULT) -> Call[TaskState]:
    """POST /tasks; `lease` in seconds."""
    body = given(name=None if name is None else text("name", name), lease_s=lease)

    def parse(value: Any) -> TaskState:
        made = new_task(value)
        made.wanted_name = name
        return made

    return Call("spawn", "POST", "/tasks", parse, body, body, keyed=True)


def fork() -> Call[TaskState]:
    """POST /tasks/{pid}/fork."""
    return Call("fork", "POST", "/tasks/{pid}/fork", new_task, body={}, keyed=True, tid_in="body")


def thread() -> Call[ThreadState]:
    """POST /tasks/{pid}/threads."""

    def effect(task: TaskState, _: ThreadState, made: ThreadState) -> None:
        task.threads.append(made)

    path = "/tasks/{pid}/threads"
    return Call("thread", "POST", path, new_thread, body={}, keyed=True, tid_in="body", effect=effect)


def exit_task() -> Call[int]:
    """DELETE /tasks/{pid}."""

    def effect(task: TaskState, _: ThreadState, __: Any) -> None:
        task.ended = True

    return Call("exit", "DELETE", "/tasks/{pid}", no_value, answer=no_answer, effect=effect)


def exit_thread() -> Call[int]:
    """DELETE /tasks/{pid}/threads/{tid}."""

    def effect(task: TaskState, thread: ThreadState, _: Any) -> None:
        if thread in task.threads:
            task.threads.remove(thread)

    return Call(
        "exit_thread", "DELETE", "/tasks/{pid}/threads/{tid}", no_value, answer=no_answer, effect=effect
    )


def exec_task() -> Call[int]:
    """POST /tasks/{pid}/exec: nothing of the old program stays."""

    def effect(task: TaskState, _: ThreadState, __: Any) -> None:
        task.begin_anew()

    path = "/tasks/{pid}/exec"
    return Call("exec", "POST", path, no_value, body={}, answer=no_answer, keyed=True, effect=effect)


def prlimit(resource: str, value: SupportsIndex | None = None) -> Call[int]:
    """POST /tasks/{pid}/prlimit; the former value."""
    args = given(resource=text("resource", resource), value=None if value is None else integer(value))
    path, repeatable = "/tasks/{pid}/prlimit", value is None
    return Call("prlimit", "POST", path, former_limit, args, args, repeatable=repeatable)


def former_limit(value: Any) -> int:
    """A limit: the number itself, or the object {"value"}."""
    return plain_int(value["value"] if isinstance(value, dict) else value)


def heartbeat() -> Call[int]:
    """POST /tasks/{pid}/heartbeat: renews the lease."""
    return Call("heartbeat", "POST", "/tasks/{pid}/heartbeat", no_value, answer=no_answer, repeatable=True)


def task_info() -> Call[TaskInfo]:
    """GET /tasks/{pid}."""
    return Call("task_info", "GET", "/tasks/{pid}", TaskInfo.from_json, repeatable=True)


def info_of(pid: int) -> Call[TaskInfo]:
    """GET /tasks/{pid} of any task."""
    return replace(task_info(), path=f"/tasks/{integer(pid)}")


def task_of(pid: int) -> Call[TaskState]:
    """GET /tasks/{pid} for a handle on a task that exists already."""
    path = f"/tasks/{integer(pid)}"
    return Call("task_info", "GET", path, lambda value: new_task(value, ours=False), repeatable=True)


def task_list(cursor: str | None = None, limit: int | None = None) -> Call[Page[TaskInfo]]:
    """GET /tasks, one page."""
    parse = page_of(TaskInfo.from_json)
    return Call("task_list", "GET", "/tasks", parse, query=paging(cursor, limit), repeatable=True)


def version() -> Call[Version]:
    """GET /version, outside /v1."""
    return Call("version", "GET", "//version", Version.from_json, repeatable=True)


def ready() -> Call[bool]:
    """GET /readyz, outside /v1; a refusal is an answer, too."""
    return Call("ready", "GET", "//readyz", bool, answer=lambda _: True)


def new_task(value: Mapping[str, Any], ours: bool = True) -> TaskState:
    """Our side of a task, made just now or, with `ours` false, by somebody else."""
    info = TaskInfo.from_json(value)
    threads = [ThreadState(thread.tid, thread.active) for thread in info.threads]
    threads.sort(key=lambda thread: thread.tid != info.tid)  # the main thread first
    return TaskState(info.pid, info.name, info.lease_s, threads=threads, ours=ours)


def new_thread(value: Any) -> ThreadState:
    """Our side of a thread that was just made."""
    return ThreadState(plain_int(value["tid"] if isinstance(value, dict) else value))


def respawn(task: TaskState) -> Generator[Step, Any, None]:
    """All steps that bring a task back after the service lost it: the task, its threads, attachments and switches.

    The driver sends each step's call for the given thread and sends the result back in. The contents of the task's
    own memory are gone, as after a reboot; those of spaces and segments are not.
    """
    main, *others = task.threads
    made: TaskState = yield spawn(task.wanted_name, task.lease_s), main
    task.pid, task.name, task.instance = made.pid, made.name, made.instance
    main.tid = made.threads[0].tid
    task.threads = [main]
    try:
        for other in others:
            fresh: ThreadState = yield thread(), main
            other.tid = fresh.tid
            task.threads[-1] = other  # the call's effect put `fresh` there
        for vid, (wanted, lazy) in list(task.attachments.items()):
            yield vas_attach(0, vid, wanted, lazy), main
        for each in task.threads:
            if each.active:
                yield vas_switch(each.active, task.lease_s), each
    except VasError:
        task.threads = [main, *others]
        with suppress(VasError):  # else its lease ends it
            yield replace(exit_task(), effect=None), main
        task.instance = NO_INSTANCE  # the next call finds it lost and tries again
        raise
