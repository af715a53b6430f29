"""How much a store holds, in figures that cost next to nothing."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a store holds at about one moment. Sizes in bytes."""

    file_bytes: int
    """Of the store file, as it occupies the disk at most."""
    used_bytes: int
    """Of the file, what tables occupy."""
    free_bytes: int
    """Of the file, the rest: what commits may still use before it has to grow."""
    chunk_bytes: int
    """Of what is used, the chunks."""
    chunks: int
    """Rows of pages in the log, those included that are dead and not yet deleted."""
    live_pages: int
    """Pages that can be fetched, and those of dropped layers that are still to be cleared away."""
    layers: int
    """Layers that pages or holes were put into and that are not gone."""
    objects: int
    """Objects that were cloned, are clones, or have no owner; each other one stands alone on a layer of its own."""
    spaces: int
    segments: int
    receipts: int
    tail_entries: int
    """Pages and drops in the log behind the checkpoint: what the next opening would replay."""
    last_lsn: int
    """Number of the newest row of the log."""
    transactions: int
    """Write transactions committed in the life of the file."""
