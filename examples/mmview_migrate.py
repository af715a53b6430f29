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


class Worker(threading.Thread):
    """Answers requests until it is stopped, and notes when the first was answered by the old and by the new text."""

    def __init__(self, thread: everspace.Thread, stop: threading.Event) -> None:
        super().__init__()
        self.answers: list[int] = []
        self.works, self.moved = threading.Event(), threading.Event()
        self._thread = thread
        self._stop_asked = stop

    def run(self) -> None:
        """Between two requests is the quiescence point: the announced view is where to be."""
        while not self._stop_asked.is_set():
            announced = self._thread.read(DATA, 1)[0]
            if announced != self._thread.mmview(everspace.MMVIEW_CURRENT):
                self._thread.mmview(everspace.MMVIEW_MIGRATE, announced)
            price, _ = run(self._thread, TEXT, PRICE)
            self.answers.append(price)
            (self.moved if announced else self.works).set()


def happened(event: threading.Event) -> None:
    """Wait for a worker; it may have died."""
    if not event.wait(60):
        raise SystemExit("a worker stands still")


def play(service: Service) -> Outcome:
    """Run the server, patch it under way, and retire the old text."""
    with everspace.connect(service.url, service.token) as client, client.spawn(name="prices") as task:
        load(task)
        stop = threading.Event()
        workers = [Worker(task.thread(), stop) for _ in range(WORKERS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            happened(worker.works)
        view = patch(task)
        task.write(DATA, bytes([view]))
        for worker in workers:
            happened(worker.moved)
        stop.set()
        for worker in workers:
            worker.join()
        task.mmview(everspace.MMVIEW_MIGRATE, view)
        base = task.mmview(everspace.MMVIEW_SWITCH_BASE)
        task.mmview(everspace.MMVIEW_DELETE, 0)
    return Outcome([worker.answers for worker in workers], base)


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
