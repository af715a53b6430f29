"""Statistics of a store on LMDB: what its parts count anyway, and what LMDB knows of its tables."""

from storage.lmdb.layers import Layers
from storage.lmdb.live import LiveCounts
from storage.lmdb.tables import Tables
from storage.rows.chunks import OVERFLOW_PAGE
from storage.statistics import Statistics


def measured(
    tables: Tables, layers: Layers, live: LiveCounts, *, tail_entries: int, last_lsn: int
) -> Statistics:
    """The statistics of a store whose parts are these. Raises lmdb.Error."""
    with tables.read() as txn:
        rows = {
            name: txn.stat(table)["entries"]
            for name, table in (
                ("objects", tables.objects),
                ("spaces", tables.spaces),
                ("segments", tables.segments),
                ("receipts", tables.receipts),
            )
        }
        transactions, page_bytes = txn.id(), tables.env.stat()["psize"]
    file_bytes = tables.path.stat().st_size
    used_bytes = tables.used_pages() * page_bytes
    return Statistics(
        file_bytes=file_bytes,
        used_bytes=used_bytes,
        free_bytes=max(file_bytes - used_bytes, 0),
        chunk_bytes=live.cost * OVERFLOW_PAGE,
        chunks=len(live),
        live_pages=live.live,
        layers=len(layers.entries),
        tail_entries=tail_entries,
        last_lsn=last_lsn,
        transactions=transactions,
        **rows,
    )
