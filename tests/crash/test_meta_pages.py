"""LMDB's meta pages lie where we think, and the last transaction can be taken back on disk, whatever became of it."""

import os
from pathlib import Path

import lmdb
import pytest

from storage.errors import StoreFailed
from storage.lmdb.meta_pages import META_BYTES, MetaPage, read_meta_pages, take_back
from storage.lmdb.tables import page_problems


def committed(path: Path, texts: list[bytes]) -> None:
    """Each text in a transaction of its own."""
    with lmdb.open(str(path), subdir=False, map_size=1 << 24, lock=False) as env:
        for text in texts:
            with env.begin(write=True) as txn:
                txn.put(b"text", text)


def last(path: Path) -> tuple[int, bytes | None]:
    """The number of the last transaction and its text, as LMDB says."""
    opened = lmdb.open(str(path), subdir=False, map_size=1 << 24, lock=False, readonly=True)
    with opened as env, env.begin() as txn:
        return env.info()["last_txnid"], txn.get(b"text")


def pages(path: Path) -> tuple[MetaPage, MetaPage]:
    file = os.open(path, os.O_RDONLY)
    try:
        return read_meta_pages(file, os.sysconf("SC_PAGE_SIZE"))
    finally:
        os.close(file)


def undo(path: Path, transaction: int) -> None:
    take_back(path, os.sysconf("SC_PAGE_SIZE"), transaction)


@pytest.mark.parametrize("count", range(1, 6))
def test_they_say_what_lmdb_says(tmp_path: Path, count: int) -> None:
    path = tmp_path / "file"
    committed(path, [b"%d" % number for number in range(count)])
    first, second = pages(path)
    assert first.is_whole
    assert second.is_whole
    assert {first.transaction, second.transaction} == {count, count - 1}
    assert max(first.transaction, second.transaction) == last(path)[0]


@pytest.mark.parametrize("count", range(2, 6))
def test_the_last_transaction_is_taken_back(tmp_path: Path, count: int) -> None:
    path = tmp_path / "file"
    committed(path, [b"%d" % number for number in range(count)])
    for _ in range(2):  # also when it has been taken back already
        undo(path, count - 1)
        assert last(path) == (count - 1, b"%d" % (count - 2))
        assert page_problems(path) == []
    committed(path, [b"another", b"one more"])
    assert last(path) == (count + 1, b"one more")


def test_a_meta_page_that_is_torn_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    committed(path, [b"one", b"two", b"three"])
    torn = next(page for page in pages(path) if page.transaction == 3)
    with path.open("r+b") as file:
        file.seek(torn.place + 16)
        file.write(b"\xff" * (META_BYTES - 16))
    undo(path, 2)
    assert last(path) == (2, b"two")


@pytest.mark.parametrize("transaction", [0, 1, 4])
def test_no_other_transaction_can_be_had(tmp_path: Path, transaction: int) -> None:
    path = tmp_path / "file"
    committed(path, [b"one", b"two", b"three"])
    before = path.read_bytes()
    with pytest.raises(StoreFailed, match="does not hold transaction"):
        undo(path, transaction)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"short", bytes(8192)])
def test_what_is_no_lmdb_file_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(StoreFailed):
        undo(path, 1)
    assert path.read_bytes() == content


def test_a_missing_file_is_an_error_of_the_store(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="No such file"):
        undo(tmp_path / "missing", 1)
