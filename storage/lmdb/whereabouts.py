"""Telling people which page it is: not by object and index, but by space and address, or by segment and offset."""

from collections.abc import Iterable, Iterator, Sequence


def whereabouts(
    kind: str, whose: str, owned: Sequence[int], object_id: int, pages: Iterable[int], page_size: int
) -> Iterator[str]:
    """Each run of `pages` (ascending) of an object as what `whose` (an id, perhaps with a name) calls it.

    `kind` is "space" or "segment". The second object that one owns is what it was born with.
    """
    word = "address" if kind == "space" else "offset"
    born = " as it was born" if object_id in owned[1:] else ""
    for low, high in runs(pages):
        last = f" to {high * page_size - 1:#x}" if high - low > 1 else ""
        yield f"{word} {low * page_size:#x}{last} of {kind} {whose}{born}"


def runs(pages: Iterable[int]) -> Iterator[tuple[int, int]]:
    """[first, last + 1) of each run of successive ones among ascending numbers."""
    first = last = -1
    for page in pages:
        if page != last or first < 0:
            if first >= 0:
                yield first, last
            first = page
        last = page + 1
    if first >= 0:
        yield first, last
