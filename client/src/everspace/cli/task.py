"""everspace task: tasks."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import everspace
from everspace.cli.core import OutputOption, save
from everspace.cli.shell import Shell, command
from everspace.cli.values import show_size
from everspace.wire import LEASE_SECONDS_DEFAULT, RESOURCE_NAMES, TYPE_NAMES

group = typer.Typer(help="Tasks: who attaches spaces and runs in them, until their lease ends.")

PidArgument = Annotated[int, typer.Argument(metavar="PID", help="The task's id.")]
TidOption = Annotated[
    int | None, typer.Option("--tid", help="The thread whose space is shown.", show_default="the main thread")
]
NameOption = Annotated[
    str | None, typer.Option("--name", help="A name for people to see.", show_default=False)
]
LeaseOption = Annotated[
    float, typer.Option("--lease", metavar="SECONDS", help="How long it lives without a call, 1 to 86400.")
]


def describe(info: everspace.TaskInfo) -> dict[str, Any]:
    """A task as JSON."""
    held = [{**asdict(a), "type": TYPE_NAMES.get(a.type, a.type)} for a in info.attachments]
    return {**asdict(info), "attachments": held}


@command(group, "ls")
def list_tasks(shell: Shell) -> None:
    """List all tasks."""
    found = list(shell.client.tasks())
    rows = [
        [
            str(info.pid),
            str(info.uid),
            f"{info.lease_s:g}s",
            str(len(info.threads)),
            ",".join(f"{a.vid}:{TYPE_NAMES.get(a.type, '?')}" for a in info.attachments) or "-",
            info.name or "-",
        ]
        for info in found
    ]
    shell.table(
        [">PID", ">UID", ">LEASE", ">THREADS", "ATTACHED", "NAME"], rows, [describe(info) for info in found]
    )


@command(group, "spawn")
def spawn(shell: Shell, name: NameOption = None, lease: LeaseOption = LEASE_SECONDS_DEFAULT) -> None:
    """Make a task and print its id; it ends when nobody calls it for its lease."""
    task = shell.client.spawn(name, lease)
    shell.say(str(task.pid), describe(task.info()) if shell.json else None)


@command(group, "core")
def core(shell: Shell, pid: PidArgument, output: OutputOption = None, tid: TidOption = None) -> None:
    """Write an ELF core file of what a task's main thread (or --tid) sees, for gdb and its like."""
    path = output or Path(f"core.{pid}")
    save(shell, f"task {pid}", path, shell.client.task(pid).of_thread(tid).core)


@command(group, "rm")
def remove(shell: Shell, pid: PidArgument) -> None:
    """End a task: it leaves its spaces and lets go of them."""
    shell.client.task(pid).exit()
    shell.say(f"ended task {pid}", {"pid": pid})


@command(group, "fork")
def fork(shell: Shell, pid: PidArgument, tid: TidOption = None) -> None:
    """Copy a task, as fork(2), and print the child's id."""
    child = shell.client.task(pid).of_thread(tid).fork()
    shell.say(str(child.pid), describe(child.info()) if shell.json else None)


@command(group, "exec")
def execute(shell: Shell, pid: PidArgument) -> None:
    """Let a task begin anew, as execve(2)."""
    shell.client.task(pid).exec()
    shell.say(f"task {pid} begins anew", {"pid": pid})


@command(group, "limits")
def limits(shell: Shell, pid: PidArgument) -> None:
    """Show the limits of a task."""
    with shell.client.task(pid).batch() as batch:
        asked = {name: batch.prlimit(name) for name in RESOURCE_NAMES}
    found = {name: handle.result() for name, handle in asked.items()}
    if shell.json:
        none = everspace.RLIM_INFINITY
        shell.say("", {name: None if value == none else value for name, value in found.items()})
        return
    for name, value in found.items():
        shown = str(value) if name == "map_count" else show_size(value)
        shell.write(f"{name:<14} {'unlimited' if value == everspace.RLIM_INFINITY else shown}")


@command(group, "smaps")
def smaps(shell: Shell, pid: PidArgument, tid: TidOption = None) -> None:
    """Print what memory each region uses."""
    text = shell.client.task(pid).of_thread(tid).smaps()
    if shell.json:
        shell.say("", {"smaps": text})
    else:
        shell.write(text.removesuffix("\n"))
