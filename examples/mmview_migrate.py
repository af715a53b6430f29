"""Threads move into a patched view one after another, each at a moment when it is not inside the old text.

A server computes prices; its text lies in unshared memory, its data in shared memory. A second view gets the text with
another tax. Each worker looks between two requests whether a new view was announced, and goes there: nobody is
stopped, and nobody ever runs half old and half new text. At the end the new view is the base and the old one is gone.
"""

import threading
from dataclasses import dataclass

import everspace
from everspace import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE
from examples.bytecode import ADD, MUL, RETURN, SET, assemble, run
from examples.service import Service, own_service

TEXT, DATA = 0x4000_0000, 0x4001_0000
PAGE = 4096
WORKERS = 3
PRICE = 100
ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
WRITABLE, RUNNABLE = PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC


def priced_with(tax: int) -> bytes:
    """The text: r0 + tax * 1, with the tax as a constant in its second instruction."""
    return assemble((SET, 1, 1), (SET, 2, tax), (MUL, 1, 1, 2), (ADD, 0, 0, 1), (RETURN, 0))


@dataclass(frozen=True)
class Outcome:
    """What each worker answered, request by request; the base at the end."""

    answers: list[list[int]]
    base: int


def load(task: everspace.Task) -> None:
    """Map text and data; only the text will be private to each view."""
    task.mmap(TEXT, PAGE, WRITABLE, ANONYMOUS)
    task.mmap(DATA, PAGE, WRITABLE, ANONYMOUS)
    task.write(TEXT, priced_with(7))
    task.mprotect(TEXT, PAGE, RUNNABLE)
    task.mmview(everspace.MMVIEW_UNSHARE, TEXT, PAGE)


def patch(task: everspace.Task) -> int:
    """Make a view with another text; the caller goes there, does it, and comes back."""
    view = task.mmview(everspace.MMVIEW_CREATE)
    before = task.mmview(everspace.MMVIEW_MIGRATE, view)
    task.mprotect(TEXT, PAGE, WRITABLE)
    task.write(TEXT, priced_with(19))
    task.mprotect(TEXT, PAGE, RUNNABLE)
    task.mmview(everspace.MMVIEW_MIGRATE, before)
    return view


def work(thread: everspace.Thread, answers: list[int], moved: threading.Event, stop: threading.Event) -> None:
    """Answer requests. Between two of them is the quiescence point: the announced view is where to be."""
    while not stop.is_set():
        announced = thread.read(DATA, 1)[0]
        if announced != thread.mmview(everspace.MMVIEW_CURRENT):
            thread.mmview(everspace.MMVIEW_MIGRATE, announced)
        price, _ = run(thread, TEXT, PRICE)
        answers.append(price)
        if announced:
            moved.set()


def play(service: Service) -> Outcome:
    """Run the server, patch it under way, and retire the old text."""
    with everspace.connect(service.url, service.token) as client, client.spawn(name="prices") as task:
        load(task)
        answers: list[list[int]] = [[] for _ in range(WORKERS)]
        moved, stop = [threading.Event() for _ in range(WORKERS)], threading.Event()
        workers = [
            threading.Thread(target=work, args=(task.thread(), answers[number], moved[number], stop))
            for number in range(WORKERS)
        ]
        for worker in workers:
            worker.start()
        while not all(answers):
            moved[0].wait(0.01)
        view = patch(task)
        task.write(DATA, bytes([view]))
        for event in moved:
            event.wait()
        stop.set()
        for worker in workers:
            worker.join()
        task.mmview(everspace.MMVIEW_MIGRATE, view)
        base = task.mmview(everspace.MMVIEW_SWITCH_BASE)
        task.mmview(everspace.MMVIEW_DELETE, 0)
    return Outcome(answers, base)


def main() -> None:
    """Tell how it went."""
    with own_service() as service:
        outcome = play(service)
    for number, answers in enumerate(outcome.answers):
        old, new = answers.count(107), answers.count(119)
        print(f"worker {number}: {old} answers by the old text, then {new} by the new one")
    print(f"view {outcome.base} is the base now, the old text is gone")


if __name__ == "__main__":
    main()
