"""Layers laid over each other, node by node; and what was found kept, so that depth costs little the second time."""

from collections.abc import Iterable, Sequence

import numpy as np

from storage.rows.format import NODE_PAGES, U64
from storage.rows.nodes import HOLE

NOTHING: U64 = np.zeros(NODE_PAGES, np.uint64)
"""A node without an entry."""
NOTHING.flags.writeable = False
GROUND: U64 = np.zeros((2, NODE_PAGES), np.uint64)
"""What lies below the last ancestor: no locations, of no layers."""


def together(layers: Iterable[tuple[int, U64 | None]], below: U64) -> U64:
    """Locations and, in a second row, the layers that have them: what `layers`, nearest last, say over `below`."""
    found = below.copy()
    for layer, node in layers:
        if node is not None:
            said = node != 0
            found[0, said] = node[said]
            found[1, said] = layer
    return found


def laid_over(node: U64, below: U64) -> U64:
    """The entries of a node, and those of the one below where it has none."""
    if below is NOTHING:
        return node
    return below if node is NOTHING else np.where(node != 0, node, below)


def without_holes(locations: U64) -> U64:
    """Locations, 0 where there is a hole. Changes its argument."""
    locations[locations == HOLE] = 0
    return locations


class Overlay:
    """What a layer and all its ancestors say together, of nodes that were asked for. Guarded by the map's lock."""

    def __init__(self, nodes_max: int) -> None:
        self._nodes_max = nodes_max
        self._kept: dict[tuple[int, int], U64] = {}
        self._covered: set[int] = set()
        self.moves = 0
        """Grows with whatever may change what layers say together."""

    def get(self, layer: int, number: int) -> U64 | None:
        """Locations and layers of a node, of the layer and its ancestors, if they are known. Not to be changed."""
        return self._kept.get((layer, number))

    def keep(self, layers: Sequence[int], number: int, node: U64, moves: int) -> None:
        """What `layers`, nearest first, say together; as of `moves`."""
        if moves != self.moves or (layers[0], number) in self._kept:
            return
        while len(self._kept) >= self._nodes_max:
            del self._kept[next(iter(self._kept))]
        self._kept[layers[0], number] = node
        self._covered.update(layers)

    def moved(self, layers: Iterable[int]) -> None:
        """These layers say something else from now on."""
        self.moves += 1
        if self._covered and not self._covered.isdisjoint(layers):
            self._kept.clear()
            self._covered.clear()
