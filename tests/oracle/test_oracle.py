"""The engine does what Linux does: the same calls, the same answers, maps and bytes.

A failure prints the shortest sequence that was found, and the command that replays it.
"""

from collections import Counter, defaultdict
from itertools import chain

import pytest

from tests.oracle.calls import SIGNATURES
from tests.oracle.compare import Difference, steps_of
from tests.oracle.conftest import OpenOracle
from tests.oracle.generate import generate
from tests.oracle.kernel import Kernel
from tests.oracle.modes import MODES
from tests.oracle.oracle import Oracle
from tests.oracle.play import Answer
from tests.oracle.rules import RULES

CALLS = 40
PLAIN, PLAIN_PARTS = 2048, 16
OTHERS, OTHERS_PARTS = 128, 2
"""Sequences of the plain mode and of each other mode, and the test cases they are spread over."""
NEW, WORTH, AGAIN, LONG = 25, 100, 20, 3
"""Sequences of each mode for the other tests."""
SEEDS = 10_000

EXPECTED = {
    "mmap": {"ok", "elsewhere", "EINVAL", "ENOMEM", "EEXIST", "EPERM", "EAGAIN"},
    "munmap": {"ok", "EINVAL", "ENOMEM"},
    "mprotect": {"ok", "EINVAL", "ENOMEM"},
    "mremap": {"ok", "elsewhere", "EINVAL", "EFAULT", "ENOMEM", "EAGAIN"},
    "brk": {"ok"},
    "madvise": {"ok", "EINVAL", "ENOMEM", "EAGAIN", "EFAULT"},
    "msync": {"ok", "EINVAL", "ENOMEM", "EBUSY"},
    "mincore": {"ok", "EINVAL", "ENOMEM"},
    "mlock": {"ok", "EINVAL", "ENOMEM", "EPERM"},
    "munlock": {"ok", "EINVAL", "ENOMEM"},
    "load": {"ok", "EFAULT"},
    "store": {"ok", "EFAULT"},
}
"""Answers of each call that the sequences below must bring about: all that the engine's documentation names."""


def require_agreement(oracle: Oracle, first: int, count: int) -> None:
    """Run the sequences of `count` seeds."""
    for seed in range(first, first + count):
        found = oracle.difference(oracle.generate(seed, CALLS))
        if found is not None:
            replay = f"make oracle MODE={oracle.mode.name} CALLS={CALLS} SEED={seed} N=1"
            pytest.fail(f"{replay}\n{oracle.shrunk(found)}", pytrace=False)


@pytest.mark.parametrize("part", range(PLAIN_PARTS))
def test_known_sequences_agree(open_oracle: OpenOracle, part: int) -> None:
    count = PLAIN // PLAIN_PARTS
    require_agreement(open_oracle("plain"), SEEDS + part * count, count)


@pytest.mark.parametrize("part", range(OTHERS_PARTS))
@pytest.mark.parametrize("mode", [name for name in MODES if name != "plain"])
def test_known_sequences_agree_in_other_surroundings(mode: str, part: int, open_oracle: OpenOracle) -> None:
    count = OTHERS // OTHERS_PARTS
    require_agreement(open_oracle(mode), SEEDS + part * count, count)


def test_new_sequences_agree(oracle: Oracle, seed: int) -> None:
    require_agreement(oracle, seed, NEW)


def test_long_sequences_agree(oracle: Oracle) -> None:
    for seed in range(LONG):
        found = oracle.difference(oracle.generate(seed, 400))
        if found is not None:
            pytest.fail(str(oracle.shrunk(found)), pytrace=False)


def test_the_kernel_agrees_with_itself(oracle: Oracle) -> None:
    """Two processes, two readers of maps: what is compared does not depend on the process that plays the kernel."""
    with Kernel(oracle.mode, maps_text=not oracle.mode.crowded) as second:
        for seed in range(SEEDS, SEEDS + AGAIN):
            calls = oracle.generate(seed, CALLS)
            first = oracle.kernel.run(steps_of(calls))
            again = second.run(steps_of(calls))
            assert first == again, str(Difference(calls, first, again))


def kind_of(answer: Answer) -> str:
    """An errno, "elsewhere" for what was placed outside the window, or "ok"."""
    if isinstance(answer, list):
        return "elsewhere"
    return answer if isinstance(answer, str) else "ok"


def test_sequences_are_worth_comparing(open_oracle: OpenOracle) -> None:
    """Most calls do something, every kind of call is made, and every errno is seen."""
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for mode in MODES.values():
        oracle = open_oracle(mode.name)
        generated = (oracle.generate(seed, CALLS) for seed in range(SEEDS, SEEDS + WORTH))
        heap = oracle.kernel.can["brk"]
        rules = (rule.calls for rule in RULES if rule.mode == mode.name and (heap or not rule.needs_heap))
        for calls in chain(generated, rules):
            for name, answer, _ in oracle.kernel.run(steps_of(calls)):
                answers[name][kind_of(answer)] += 1
    made = Counter({name: sum(answers[name].values()) for name in SIGNATURES})
    done = sum(answers[name][kind] for name in EXPECTED for kind in ("ok", "elsewhere"))
    print(f"{done / sum(made[name] for name in EXPECTED):.1%} of the calls succeed")
    for name in sorted(made):
        print(f"{name:<10} {made[name]:>6}  {dict(answers[name].most_common())}")
    assert 0.6 < done / sum(made[name] for name in EXPECTED) < 0.9
    usable = SIGNATURES.keys() - ({"exit"} if open_oracle("plain").kernel.can["brk"] else {"exit", "brk"})
    assert {name for name in usable if made[name] < 100} == set()
    lacking = {name: wanted - answers[name].keys() for name, wanted in EXPECTED.items() if name in usable}
    assert {name: kinds for name, kinds in lacking.items() if kinds} == {}


def test_a_seed_gives_the_same_sequence_again() -> None:
    first, second = (generate(7, MODES["plain"], CALLS) for _ in range(2))
    assert first == second
    assert len(first) == CALLS
