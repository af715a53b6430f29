"""Whose pages they are that the log holds: found by asking, for each space and segment, where its pages lie."""

from collections.abc import Iterator

import numpy as np

from engine.changes import Image
from storage.lmdb.changeset import Owned, objects_of
from storage.lmdb.recovery import Recovered
from storage.lmdb.tables import NodeTable, Tables, Txn
from storage.lmdb.whereabouts import whereabouts

Place = tuple[int, int, int]
"""Layer, page, location."""


class Whose:
    """The owners of pages of a store that nobody changes meanwhile."""

    def __init__(self, tables: Tables, txn: Txn, image: Image, found: Recovered) -> None:
        self._rows = NodeTable(tables, txn)
        self._found = found
        self._page_size = image.page_size
        self._owners: list[tuple[str, str, Owned]] = [
            *(("space", f"{space.vid} {space.name!r}", objects_of(space)) for space in image.spaces),
            *(("segment", f"{one.sid} {one.name!r}", objects_of(one)) for one in image.segments),
        ]

    def tell(self, places: list[Place]) -> str:
        """Where people find what lies there: after a colon, and with nothing when nobody does."""
        told = "; ".join(self._each(places))
        return f": {told}" if told else ""

    def _each(self, places: list[Place]) -> Iterator[str]:
        layers = {layer for layer, _, _ in places}
        wanted = {location for _, _, location in places}
        for kind, whose, owned in self._owners:
            for object_id in owned:
                reached = layers.intersection(self._found.locations.layers.chain(object_id))
                pages = sorted({page for layer, page, _ in places if layer in reached})
                if pages:
                    seen = [
                        page
                        for page, at in zip(pages, self._located(object_id, pages), strict=True)
                        if at in wanted
                    ]
                    yield from whereabouts(kind, whose, owned, object_id, seen, self._page_size)

    def _located(self, object_id: int, pages: list[int]) -> list[int]:
        locations = self._found.locations
        found = locations.locate(object_id, np.array(pages, np.uint64), self._rows, locations.epoch)
        return [0] * len(pages) if found is None else [int(location) for location in found.locations]
