"""A long computation that a crash does not throw back to its start: checkpoints of a task's memory.

All state of the computation is in the task's memory: a counter, a random number, a histogram. Every so often vas_fork
makes an image of it, which costs no copy. The service is killed in the middle; after its restart a new task becomes
what the image holds (vas_exec) and goes on. The result is the one of a computation that nobody disturbed.
"""

import struct
from dataclasses import dataclass

import everspace
from everspace import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE
from examples.service import Service, own_service

STATE = 0x4000_0000
SLOTS = 16
LAYOUT = struct.Struct(f"<QQ{SLOTS}Q")  # step, random number, histogram
STEPS, EVERY, CRASH_AT = 60, 20, 50
MULTIPLIER, INCREMENT, MASK = 6364136223846793005, 1442695040888963407, (1 << 64) - 1


@dataclass(frozen=True)
class Outcome:
    """The undisturbed result, the one over the crash, the step it went on from, and what the image had when run again."""

    expected: tuple[int, ...]
    result: tuple[int, ...]
    resumed_at: int
    again_at: int


def advance(state: tuple[int, ...]) -> tuple[int, ...]:
    """One step."""
    step, number, *histogram = state
    number = (number * MULTIPLIER + INCREMENT) & MASK
    histogram[number >> 60] += 1
    return (step + 1, number, *histogram)


def undisturbed() -> tuple[int, ...]:
    """All steps without any service."""
    state: tuple[int, ...] = (0, 1, *([0] * SLOTS))
    for _ in range(STEPS):
        state = advance(state)
    return state


def load(task: everspace.Task) -> tuple[int, ...]:
    """The state as it is in memory."""
    return LAYOUT.unpack(task.read(STATE, LAYOUT.size))


def compute(task: everspace.Task, until: int) -> int:
    """Go on up to a step, with an image every so often; the id of the last image."""
    image = 0
    while (state := load(task))[0] < until:
        state = advance(state)
        task.write(STATE, LAYOUT.pack(*state))
        if state[0] % EVERY == 0:
            image = task.vas_fork(f"checkpoint {state[0]}")
    return image


def play(service: Service) -> Outcome:
    """Compute, crash, go on from the last image."""
    with everspace.connect(service.url, service.token) as client:
        task = client.spawn(name="computation")
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
        task.mmap(STATE, LAYOUT.size, PROT_READ | PROT_WRITE, flags)
        task.write(STATE, LAYOUT.pack(0, 1, *([0] * SLOTS)))
        compute(task, CRASH_AT)
        service.kill()
    service.start()
    with everspace.connect(service.url, service.token) as client, client.spawn(name="computation") as task:
        image = client.spaces.find(f"checkpoint {CRASH_AT // EVERY * EVERY}")
        task.vas_exec(image.vid)
        resumed_at = load(task)[0]
        compute(task, STEPS)
        result = load(task)
        with client.spawn(name="the same checkpoint again") as second:
            second.vas_exec(image.vid)
            again_at = load(second)[0]
    return Outcome(undisturbed(), result, resumed_at, again_at)


def main() -> None:
    """Tell how it went."""
    with own_service() as service:
        outcome = play(service)
    print(f"killed at step {CRASH_AT}, gone on from the image of step {outcome.resumed_at}")
    print(
        f"step {outcome.result[0]}: {'as if nothing had happened' if outcome.result == outcome.expected else 'wrong'}"
    )
    print(f"the image still has step {outcome.again_at}")


if __name__ == "__main__":
    main()
