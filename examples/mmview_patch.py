"""Text is patched in one view while other threads run the old text: both at once, on the same data.

`double` returns its argument times two. Two threads stay in the base and run it as it is. A third goes into a view of
its own, where the text is patched to times three. All three add what they computed to one total in shared memory: the
text differs between views, the data does not.
"""

import threading
from dataclasses import dataclass

import everspace
from everspace import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE
from examples.bytecode import MUL, RETURN, SET, assemble, run
from examples.service import Service, own_service

TEXT, DATA = 0x4000_0000, 0x4001_0000
PAGE = 4096
ROUNDS = 20
ARGUMENT = 21
ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
OPERAND = 2  # where the factor is, in the bytes of the first instruction


@dataclass(frozen=True)
class Outcome:
    """What each of the three threads computed in each round, and the total that they kept in shared memory."""

    computed: list[list[int]]
    total: int


def multiply_by(factor: int) -> bytes:
    """The text."""
    return assemble((SET, 1, factor), (MUL, 0, 0, 1), (RETURN, 0))


def work(thread: everspace.Thread, computed: list[int], taken: threading.Lock) -> None:
    """Run the text that this thread's view shows, and add to the total that every view shows."""
    for _ in range(ROUNDS):
        value, _ = run(thread, TEXT, ARGUMENT)
        computed.append(value)
        with taken:
            total = int.from_bytes(thread.read(DATA, 8), "little") + value
            thread.write(DATA, total.to_bytes(8, "little"))


def play(service: Service) -> Outcome:
    """Two threads with the old text, one with the new."""
    with everspace.connect(service.url, service.token) as client, client.spawn(name="patched") as task:
        for place in (TEXT, DATA):
            task.mmap(place, PAGE, PROT_READ | PROT_WRITE, ANONYMOUS)
        task.write(TEXT, multiply_by(2))
        task.mmview(everspace.MMVIEW_UNSHARE, TEXT, PAGE)
        threads = [task.thread() for _ in range(3)]
        view = threads[2].mmview(everspace.MMVIEW_CREATE)
        threads[2].mmview(everspace.MMVIEW_MIGRATE, view)
        threads[2].write(TEXT + OPERAND, bytes([3]))
        computed: list[list[int]] = [[] for _ in threads]
        taken = threading.Lock()
        workers = [
            threading.Thread(target=work, args=(thread, done, taken))
            for thread, done in zip(threads, computed, strict=True)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return Outcome(computed, int.from_bytes(task.read(DATA, 8), "little"))


def main() -> None:
    """Tell how it went."""
    with own_service() as service:
        outcome = play(service)
    for number, values in enumerate(outcome.computed):
        print(f"thread {number} computed {values[0]} in each of {len(values)} rounds")
    print(f"the total in shared memory is {outcome.total}")


if __name__ == "__main__":
    main()
