"""What objects share and where they differ, from page maps alone. For a moment in which nothing is published."""

from collections.abc import Sequence

import numpy as np

from storage.format import NODE_SHIFT, U64
from storage.lookup import Lookup, NodeRows
from storage.nodes import HOLE
from storage.overlay import NOTHING, laid_over

LAST_NODE = (1 << 58) - 1 >> NODE_SHIFT


def usage(locations: Lookup, objects: Sequence[int], rows: NodeRows) -> tuple[int, int]:
    """See `Store.usage`."""
    tree = locations.layers
    said: dict[int, U64] = {}
    logical = shared = 0
    is_shared, past = False, 0
    for layer in tree.chain(objects[0]):
        is_shared = is_shared or tree.is_reached_from(layer, objects, past)
        past = layer
        for number, node in locations.nodes(layer, 0, LAST_NODE, rows).items():
            above = said.get(number, NOTHING)
            new = int(np.count_nonzero((node > HOLE) & (above == 0)))
            logical += new
            shared += new * is_shared
            said[number] = laid_over(above, node)
    return logical, shared


def differing(locations: Lookup, pair: tuple[int, int], first: int, count: int, rows: NodeRows) -> list[int]:
    """See `Store.differing`."""
    chains = [locations.layers.chain(object_id) for object_id in pair]
    common = set(chains[0]) & set(chains[1])
    low, high = first >> NODE_SHIFT, (first + count - 1) >> NODE_SHIFT
    sides = []
    for chain in chains:
        said: dict[int, U64] = {}
        for layer in (layer for layer in chain if layer not in common):
            for number, node in locations.nodes(layer, low, high, rows).items():
                said[number] = laid_over(said.get(number, NOTHING), node)
        sides.append(said)
    shared = [layer for layer in chains[0] if layer in common]
    found: list[int] = []
    for number in sorted(sides[0].keys() | sides[1].keys()):
        left, right = (side.get(number, NOTHING) for side in sides)
        if ((left == 0) != (right == 0)).any():
            below = NOTHING
            for layer in reversed(shared):
                below = laid_over(locations.node(layer, number, rows), below)
            left, right = laid_over(left, below), laid_over(right, below)
        # 0 and a hole are the same here: no page
        unlike = np.flatnonzero((left != right) & ((left > HOLE) | (right > HOLE)))
        found += [(number << NODE_SHIFT) + position for position in unlike.tolist()]
    return [page for page in found if first <= page < first + count]
