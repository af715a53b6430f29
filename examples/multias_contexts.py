"""A host of virtual machines keeps the address spaces of its guests in slots, and switches instead of mapping anew.

First comes the recipe of the patch: the data segment is copied into shared memory, which is moved over it, then slots
are made until there are no more. What the host keeps in its data segment is then one in all slots, while everything
else is private to each. Then guests are run: each needs its pages mapped at the same place. A guest whose context is in
a slot costs one switch; one that is not takes the slot that was used longest ago, and its pages are mapped anew.
"""

import errno
import random
from collections import OrderedDict
from dataclasses import dataclass

import everspace
from everspace import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
)
from examples.service import Service, own_service

DATA, ELSEWHERE, GUEST = 0x4000_0000, 0x4800_0000, 0x5000_0000
PAGE = 4096
GUEST_PAGES = 4
GUESTS = 24
ENTRIES = 200
RW = PROT_READ | PROT_WRITE
PRIVATE, SHARED = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED


@dataclass(frozen=True)
class Outcome:
    """Slots beside the original address space; switches that found their guest, and mappings that had to be made."""

    slots: int
    found: int
    mapped: int
    entries: int
    wrong: int


def share_data_segment(task: everspace.Task) -> None:
    """The first half of the recipe: what lies at DATA becomes shared memory, with the same bytes at the same place."""
    shared = task.mmap(ELSEWHERE, PAGE, RW, SHARED)
    task.write(shared, task.read(DATA, PAGE))
    task.mremap(shared, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, DATA)


def make_slots(task: everspace.Task) -> int:
    """The second half: make copies until ENOENT says that all are made; go back to the first."""
    made = 0
    while True:
        try:
            task.new_as()
        except everspace.VasError as error:
            if error.errno != errno.ENOENT:
                raise
            task.switch_as(0)
            return made
        made += 1


class Host:
    """Runs guests in the slots 1 and up, each at the same addresses."""

    def __init__(self, task: everspace.Task, slots: int) -> None:
        self.task = task
        self.cache: OrderedDict[int, int] = OrderedDict()  # guest → slot, the longest unused first
        self.free = list(range(slots, 0, -1))
        self.found = self.mapped = 0

    def enter(self, guest: int) -> None:
        """Go where the guest's pages are, or map them where another guest's were."""
        if guest in self.cache:
            self.task.switch_as(self.cache[guest])
            self.found += 1
        else:
            slot = self.free.pop() if self.free else self.cache.popitem(last=False)[1]
            self.task.switch_as(slot)
            self.task.mmap(GUEST, GUEST_PAGES * PAGE, RW, PRIVATE)
            self.task.write(GUEST, guest.to_bytes(8, "little"))
            self.cache[guest] = slot
            self.mapped += 1
        self.cache.move_to_end(guest)

    def run(self, guest: int) -> bool:
        """Let a guest work for a while and count it in the host's data; whether it found its own memory."""
        self.enter(guest)
        entries = int.from_bytes(self.task.read(DATA, 8), "little") + 1
        self.task.write(DATA, entries.to_bytes(8, "little"))
        return int.from_bytes(self.task.read(GUEST, 8), "little") == guest


def play(service: Service) -> Outcome:
    """Run guests as they are wanted: some often, most rarely."""
    with everspace.connect(service.url, service.token) as client, client.spawn(name="host") as task:
        task.mmap(DATA, PAGE, RW, PRIVATE)
        share_data_segment(task)
        slots = make_slots(task)
        host = Host(task, slots)
        chance = random.Random(7)
        wanted = [min(chance.randrange(GUESTS), chance.randrange(GUESTS)) for _ in range(ENTRIES)]
        wrong = sum(not host.run(guest) for guest in wanted)
        task.switch_as(0)
        entries = int.from_bytes(task.read(DATA, 8), "little")
    return Outcome(slots, host.found, host.mapped, entries, wrong)


def main() -> None:
    """Tell how it went."""
    with own_service() as service:
        outcome = play(service)
    print(f"{outcome.slots} slots beside the original address space, {GUESTS} guests")
    print(f"{outcome.entries} entries: {outcome.found} by a switch alone, {outcome.mapped} with mapping anew")
    print(f"{outcome.wrong} guests found the memory of another")


if __name__ == "__main__":
    main()
