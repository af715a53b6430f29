"""A translation in a TLB is one that the page table has: whatever is called, whichever tags are recycled."""

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.simulated.mmu import Cpu, Mmu
from engine.simulated.tags import Tags
from engine.simulated.tlb import Tlb
from engine.union import Union
from tests.simulation.world import CALLS, Step, World, caught, steps_from

NUMBERS = st.integers(0, 63)
STEPS = st.lists(st.builds(Step, st.sampled_from(CALLS), NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=60)
TAGS = (0, 4, 5, 4096)
"""None; as few as two CPUs can have; one more; enough."""


class DeafTlb(Tlb):
    """Hears no shootdown."""

    def invalidate(self, tag: int, vpn: int, count: int) -> None:
        pass

    def flush_tag(self, tag: int) -> None:
        pass


class ForgetfulTags(Tags):
    """Gives numbers out again without a flush."""

    def _flush_everywhere(self) -> None:
        pass


class SelfishMmu(Mmu):
    """Interrupts no other CPU."""

    def shoot_down(self, initiator: Cpu | None) -> None:
        others = [cpu for cpu in self.cpus if cpu is not initiator]
        kept = [dict(cpu.contexts) for cpu in others]
        for cpu in others:
            cpu.contexts.clear()
        super().shoot_down(initiator)
        for cpu, contexts in zip(others, kept, strict=True):
            cpu.contexts.update(contexts)


class LazyMmu(Mmu):
    """Has no tags, and loads another address space without a flush."""

    def load(self, cpu: Cpu, union: Union) -> None:
        kept = list(cpu.tlb.entries())
        super().load(cpu, union)
        for tag, vpn, entry in kept:
            cpu.tlb.insert(tag, vpn, entry)


CANARIES: dict[str, tuple[Callable[..., Mmu], int]] = {
    "no shootdown": (partial(Mmu, make_tlb=DeafTlb), 4096),
    "no shootdown, no tags": (partial(Mmu, make_tlb=DeafTlb), 0),
    "no flush when tags are recycled": (partial(Mmu, make_tags=ForgetfulTags), 4),
    "no interrupts": (SelfishMmu, 4096),
    "no flush without tags": (LazyMmu, 0),
}
"""Wrong hardware, and its number of tags."""


@pytest.mark.parametrize("tags", TAGS)
@settings(max_examples=60)
@given(steps=STEPS)
@example(steps=steps_from(1, 200))
@example(steps=steps_from(2, 200))
def test_no_translation_is_stale(tags: int, steps: list[Step]) -> None:
    assert World(tags).play(steps) == []


@pytest.mark.parametrize("tags", TAGS)
def test_long_histories(tags: int, seed: int) -> None:
    for number in range(6):
        world = World(tags)
        assert world.play(steps_from(seed + number, 400)) == []


@pytest.mark.parametrize("name", CANARIES)
def test_wrong_hardware_is_caught(name: str) -> None:
    make_mmu, tags = CANARIES[name]
    assert caught(make_mmu, tags, range(100)) != []


def test_histories_reach_what_they_are_about() -> None:
    """Tags are recycled, CPUs interrupted, pages copied and brought back, TLBs hit, and most calls are not refused."""
    world = World(4)
    steps = [step for seed in range(40) for step in steps_from(seed, 100)]
    assert world.play(steps) == []
    tags = world.sim.mmu.tags
    assert tags is not None
    hits = sum(cpu.tlb.hits for cpu in world.sim.mmu.cpus)
    done = {str(work): count for work, count in world.sim.clock.bill().done.items()}
    assert tags.rollovers > 20
    assert hits > 100
    assert done["ipi"] > 20
    assert done["page_copy"] > 2
    assert done["page_fetch"] > 10
    assert world.refused < len(steps) / 2
