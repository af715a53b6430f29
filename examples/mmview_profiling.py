"""Two views of one program, one of which counts: threads go through it in turn, never more than a few at once.

The counting text is slower, so a semaphore bounds how many threads are in it. Whoever gets a place goes there for one
request, and adds what was counted to its own counter in shared memory; everybody else computes the same at full speed,
and waits for a place with its last request only. The answers never differ.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import everspace
from everspace import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE
from examples.bytecode import ADD, COUNT, JUMP_IF, JUMP_UNLESS, RETURN, SET, SUB, Instruction, assemble, run
from examples.service import Service, own_service

TEXT, COUNTERS = 0x4000_0000, 0x4001_0000
PAGE = 4096
THREADS = 6
PLACES = 2
REQUESTS = 8
N = 30
ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED


@dataclass(frozen=True)
class Outcome:
    """The answers of each thread, what each counted in the counting view, and how many were there at once at most."""

    answers: list[list[int]]
    counted: list[int]
    profiled: list[int]
    most_at_once: int


def fibonacci(*, counting: bool) -> bytes:
    """fib(r0) by a loop; the counting text passes a COUNT in each round."""
    extra: list[Instruction] = [(COUNT,)] if counting else []
    loop = 3
    end = loop + len(extra) + 5
    return assemble(
        (SET, 2, 1),
        (SET, 5, 1),
        (JUMP_UNLESS, 0, end),
        *extra,
        (ADD, 3, 1, 2),
        (ADD, 1, 2, 4),
        (ADD, 2, 3, 4),
        (SUB, 0, 0, 5),
        (JUMP_IF, 0, loop),
        (RETURN, 1),
    )


class Places:
    """The semaphore, and who was there at once at most."""

    def __init__(self) -> None:
        self.semaphore = threading.Semaphore(PLACES)
        self.taken = threading.Lock()
        self.inside = 0
        self.most = 0

    def enter(self) -> None:
        """One more is inside."""
        with self.taken:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def leave(self) -> None:
        """One less, and its place is free."""
        with self.taken:
            self.inside -= 1
        self.semaphore.release()


def work(thread: everspace.Thread, number: int, view: int, places: Places) -> tuple[list[int], int]:
    """Answer requests, in the counting view whenever there is a place; the answers, and how many were counted."""
    answers, profiled = [], 0
    for request in range(REQUESTS):
        chosen = places.semaphore.acquire(blocking=request == REQUESTS - 1)
        if chosen:
            places.enter()
            thread.mmview(everspace.MMVIEW_MIGRATE, view)
        answer, counted = run(thread, TEXT, N)
        answers.append(answer)
        if chosen:
            mine = COUNTERS + 8 * number
            total = int.from_bytes(thread.read(mine, 8), "little") + counted
            thread.write(mine, total.to_bytes(8, "little"))
            thread.mmview(everspace.MMVIEW_MIGRATE, 0)
            places.leave()
            profiled += 1
    return answers, profiled


def play(service: Service) -> Outcome:
    """Let all threads work at once."""
    with everspace.connect(service.url, service.token) as client, client.spawn(name="profiled") as task:
        for place in (TEXT, COUNTERS):
            task.mmap(place, PAGE, PROT_READ | PROT_WRITE, ANONYMOUS)
        task.write(TEXT, fibonacci(counting=False))
        task.mmview(everspace.MMVIEW_UNSHARE, TEXT, PAGE)
        view = task.mmview(everspace.MMVIEW_CREATE)
        task.mmview(everspace.MMVIEW_MIGRATE, view)
        task.write(TEXT, fibonacci(counting=True))
        task.mmview(everspace.MMVIEW_MIGRATE, 0)
        places = Places()
        with ThreadPoolExecutor(THREADS) as pool:
            jobs = [pool.submit(work, task.thread(), number, view, places) for number in range(THREADS)]
            done = [job.result() for job in jobs]
        counters = task.read(COUNTERS, 8 * THREADS)
    counted = [int.from_bytes(counters[8 * n : 8 * n + 8], "little") for n in range(THREADS)]
    return Outcome([answers for answers, _ in done], counted, [times for _, times in done], places.most)


def main() -> None:
    """Tell how it went."""
    with own_service() as service:
        outcome = play(service)
    print(f"fib({N}) is {outcome.answers[0][0]} in every view")
    for number, (times, counted) in enumerate(zip(outcome.profiled, outcome.counted, strict=True)):
        print(
            f"thread {number}: {times} of {REQUESTS} requests in the counting view, {counted} rounds counted"
        )
    print(f"at most {outcome.most_at_once} threads were there at once; there are {PLACES} places")


if __name__ == "__main__":
    main()
