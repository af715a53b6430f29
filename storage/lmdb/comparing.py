"""What objects share and where they differ, from page maps alone: part by part, while nothing is published."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from storage.lmdb.lookup import Lookup, NodeRows
from storage.lmdb.overlay import NOTHING, laid_over
from storage.rows.format import NODE_SHIFT, U64
from storage.rows.nodes import HOLE

STEP_NODES: Final = 1024
"""Nodes of a part, at most."""
LAST_NODE: Final = (1 << 58) - 1 >> NODE_SHIFT


@dataclass(frozen=True, slots=True)
class Part:
    """Nodes [low, high] of some layers, and the first one of the next part, None when this is the last."""

    low: int
    high: int
    next: int | None


def part_of(locations: Lookup, layers: Iterable[int], low: int, high: int, rows: NodeRows) -> Part:
    """The first part of nodes [low, high] of `layers`."""
    numbers = {number for layer in layers for number in locations.nodes_from(layer, low, STEP_NODES, rows)}
    first = sorted(number for number in numbers if number <= high)[:STEP_NODES]
    return Part(low, first[-1], first[-1] + 1) if len(first) == STEP_NODES else Part(low, high, None)


def usage(locations: Lookup, objects: Sequence[int], low: int, rows: NodeRows) -> tuple[int, int, int | None]:
    """See `Store.usage`: of a part of the nodes from `low` on, and where the next one begins."""
    tree = locations.layers
    chain = tree.chain(objects[0])
    part = part_of(locations, chain, low, LAST_NODE, rows)
    said: dict[int, U64] = {}
    logical = shared = past = 0
    is_shared = False
    for layer in chain:
        is_shared = is_shared or tree.is_reached_from(layer, objects, past)
        past = layer
        for number, node in locations.nodes(layer, part.low, part.high, rows).items():
            above = said.get(number, NOTHING)
            new = int(np.count_nonzero((node > HOLE) & (above == 0)))
            logical += new
            shared += new * is_shared
            said[number] = laid_over(above, node)
    return logical, shared, part.next


def differing(
    locations: Lookup, pair: tuple[int, int], low: int, high: int, rows: NodeRows
) -> tuple[list[int], int | None]:
    """See `Store.differing`: of a part of the nodes [low, high], and where the next one begins."""
    chains = [locations.layers.chain(object_id) for object_id in pair]
    common = set(chains[0]) & set(chains[1])
    own = [[layer for layer in chain if layer not in common] for chain in chains]
    part = part_of(locations, own[0] + own[1], low, high, rows)
    left_nodes, right_nodes = (_said(locations, layers, part, rows) for layers in own)
    found: list[int] = []
    for number in sorted(left_nodes.keys() | right_nodes.keys()):
        left, right = left_nodes.get(number, NOTHING), right_nodes.get(number, NOTHING)
        if ((left == 0) != (right == 0)).any():
            below = NOTHING
            for layer in reversed(chains[0][len(own[0]) :]):
                below = laid_over(locations.node(layer, number, rows), below)
            left, right = laid_over(left, below), laid_over(right, below)
        # nothing and a hole are the same here: no page
        unlike = np.flatnonzero((left != right) & ((left > HOLE) | (right > HOLE)))
        found += [(number << NODE_SHIFT) + position for position in unlike.tolist()]
    return found, part.next


def _said(locations: Lookup, layers: Sequence[int], part: Part, rows: NodeRows) -> dict[int, U64]:
    """What layers, nearest first, say together."""
    said: dict[int, U64] = {}
    for layer in layers:
        for number, node in locations.nodes(layer, part.low, part.high, rows).items():
            said[number] = laid_over(said.get(number, NOTHING), node)
    return said
