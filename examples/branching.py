"""Try several futures of one state: clone it, let each clone go its way, compare, keep the best, reset the others.

The state is a route through twelve towns, in a space. Each branch is a clone, which costs the same whatever the state's
size; a searcher in it swaps towns as it likes. Differences tell which pages a branch has touched. The best branch
becomes a snapshot; all branches are reset in one call each and are used again for the next round.
"""

import math
import random
from dataclasses import dataclass

import everspace
from everspace import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, O_RDONLY, O_RDWR, PROT_READ, PROT_WRITE
from examples.service import Service, own_service

ROUTE, NOTES = 0x2000_0000_0000, 0x2000_0010_0000
PAGE = 4096
TOWNS = 12
BRANCHES, ROUNDS, SWAPS = 4, 2, 12
PLACES = [(number * 37 % 50, number * 53 % 50) for number in range(TOWNS)]


@dataclass(frozen=True)
class Outcome:
    """Length of the route at first and of the best one kept; pages that branches touched; routes after the resets."""

    at_first: float
    best: float
    touched: list[int]
    reset_lengths: list[float]
    lineage: list[int]


def length(route: bytes | bytearray) -> float:
    """Of the closed tour."""
    tour = [PLACES[town] for town in route]
    return sum(math.dist(*pair) for pair in zip(tour, tour[1:] + tour[:1], strict=True))


def route_in(client: everspace.Client, space: everspace.Space) -> bytes:
    """The route in a space."""
    with client.spawn(name="reader") as task:
        space.attach(task, O_RDONLY)
        task.vas_switch(space.vid)
        return task.read(ROUTE, TOWNS)


def search(client: everspace.Client, branch: everspace.Space, chance: random.Random) -> None:
    """Swap towns at random inside a branch, keep what is shorter, and leave a note of how many tries it took."""
    with client.spawn(name=f"searcher in {branch.name}") as task:
        branch.attach(task, O_RDWR)
        task.vas_switch(branch.vid)
        route = bytearray(task.read(ROUTE, TOWNS))
        for _ in range(SWAPS):
            tried = bytearray(route)
            first, second = chance.sample(range(TOWNS), 2)
            tried[first], tried[second] = tried[second], tried[first]
            if length(tried) < length(route):
                route = tried
        task.write(ROUTE, bytes(route))
        task.write(NOTES, b"%d swaps tried" % SWAPS)


def play(service: Service) -> Outcome:
    """Two rounds of four branches each."""
    with everspace.connect(service.url, service.token) as client:
        state = client.spaces.create("route", 0o600)
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
        for place in (ROUTE, NOTES):
            state.mmap(place, 16 * PAGE, PROT_READ | PROT_WRITE, flags)
        with client.spawn(name="author") as task:
            state.attach(task, O_RDWR)
            task.vas_switch(state.vid)
            task.write(ROUTE, bytes(range(TOWNS)))
        at_first = length(route_in(client, state))
        branches = [state.clone(f"branch {number}") for number in range(BRANCHES)]
        kept: list[everspace.Space] = []
        touched: list[int] = []
        for number in range(ROUNDS):
            for index, branch in enumerate(branches):
                search(client, branch, random.Random(10 * number + index))
                touched.append(sum(run.end - run.start for run in state.diff(branch)) // PAGE)
            best = min(branches, key=lambda branch: length(route_in(client, branch)))
            kept.append(best.snapshot(f"best of round {number}"))
            for branch in branches:
                branch.reset()
        return Outcome(
            at_first,
            min(length(route_in(client, snapshot)) for snapshot in kept),
            touched,
            [length(route_in(client, branch)) for branch in branches],
            list(kept[0].lineage().origins),
        )


def main() -> None:
    """Tell how it went."""
    with own_service() as service:
        outcome = play(service)
    print(f"the route had {outcome.at_first:.1f} at first, {outcome.best:.1f} in the best branch")
    least, most = min(outcome.touched), max(outcome.touched)
    print(f"each branch touched {least if least == most else f'{least} to {most}'} pages of its state")
    same = all(each == outcome.at_first for each in outcome.reset_lengths)
    print(f"after the resets {'every branch has' if same else 'not every branch has'} the first route again")


if __name__ == "__main__":
    main()
