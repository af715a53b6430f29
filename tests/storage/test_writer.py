"""Group commit: order, failure and resumption, draining, and who waits for whom."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

import pytest

from engine.changes import Change, PutPages
from engine.geometry import TOY
from storage.errors import StoreFailed, StoreFull
from storage.memory import MemoryStore
from storage.writer import Writer, WriterClosed


class Gated(MemoryStore):
    """A store whose commits wait until the test lets them go, and fail when it says so."""

    def __init__(self) -> None:
        super().__init__(TOY)
        self.groups: list[int] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.failure: Exception | None = None
        self.maintained: list[bool] = []
        self.untidy = 0
        self.housekeeping_failure: Exception | None = None
        self.threads: set[int] = set()

    def commit(self, transactions: Sequence[Sequence[Change]]) -> None:
        self.threads.add(threading.get_ident())
        self.begun.release()
        self.go.acquire()
        if self.failure is not None:
            raise self.failure
        self.groups.append(len(transactions))
        super().commit(transactions)

    def maintain(self, *, urgent_only: bool = False) -> bool:
        self.maintained.append(urgent_only)
        if self.housekeeping_failure is not None:
            raise self.housekeeping_failure
        self.untidy -= 1
        return self.untidy > 0


def change(text: str, page: int = 0) -> list[Change]:
    return [PutPages(1, (page,), text.encode().ljust(16))]


@pytest.fixture
def store() -> Gated:
    return Gated()


@pytest.fixture
def writer(store: Gated) -> Iterator[Writer]:
    made = Writer(store)
    yield made
    for _ in range(100):
        store.go.release()
    made.close()


def test_what_gathers_meanwhile_is_one_commit_in_order(store: Gated, writer: Writer) -> None:
    done: list[str] = []
    first = writer.submit(change("0"))
    store.begun.acquire()
    later = [writer.submit(change(str(number))) for number in range(1, 6)]
    for number, future in enumerate(later, 1):
        future.add_done_callback(lambda _, number=number: done.append(str(number)))  # type: ignore[misc]
    assert not any(future.done() for future in (first, *later))
    store.go.release()
    store.begun.acquire()
    assert first.done()
    store.go.release()
    later[-1].result()
    assert store.groups == [1, 5]
    assert done == ["1", "2", "3", "4", "5"]
    assert store.fetch(1, [0]) == {0: b"5".ljust(16)}
    assert len(store.threads) == 1
    assert threading.get_ident() not in store.threads


def test_a_group_takes_in_so_many_bytes_only(store: Gated) -> None:
    writer = Writer(store, group_bytes_max=40)
    blocked = writer.submit([])
    store.begun.acquire()
    large = [PutPages(1, (0, 1, 2), bytes(48))]
    futures = [
        writer.submit(changes) for changes in ([*change("a")], [*change("b")], large, [*change("c")], [])
    ]
    for _ in range(10):
        store.go.release()
    for future in (blocked, *futures):
        future.result()
    writer.close()
    assert store.groups == [1, 2, 1, 2]


def test_a_failed_group_takes_everything_behind_it_along_until_resume(store: Gated, writer: Writer) -> None:
    first = writer.submit(change("first"))
    store.begun.acquire()
    queued = [writer.submit(change("queued")) for _ in range(3)]
    store.failure = StoreFull("no space left on the disk")
    store.go.release()
    for future in (first, *queued):
        assert future.exception() is store.failure
    failure = writer.failure
    assert failure is store.failure
    refused = writer.submit(change("refused"))
    assert refused.exception() is store.failure
    assert store.groups == []
    store.failure = None
    writer.resume()
    store.go.release()
    writer.submit(change("again")).result()
    assert store.fetch(1, [0]) == {0: b"again".ljust(16)}
    assert store.groups == [1]


def test_any_exception_fails_the_group_and_not_the_thread(store: Gated, writer: Writer) -> None:
    store.failure = ZeroDivisionError("a bug")
    store.go.release()
    assert isinstance(writer.submit([]).exception(), ZeroDivisionError)
    store.failure = None
    writer.resume()
    store.go.release()
    writer.submit([]).result()


def test_closing_drains(store: Gated) -> None:
    writer = Writer(store)
    futures = [writer.submit(change(str(number))) for number in range(5)]
    for _ in range(5):
        store.go.release()
    writer.close()
    writer.close()
    assert all(future.done() and future.exception() is None for future in futures)
    with pytest.raises(WriterClosed):
        writer.submit([])


def test_what_was_submitted_cannot_be_cancelled(store: Gated, writer: Writer) -> None:
    future: Future[None] = writer.submit(change("x"))
    assert not future.cancel()
    store.go.release()
    future.result()


def test_housekeeping_is_urgent_only_while_others_wait(store: Gated) -> None:
    """The second transaction waits while the first is committed and does not fit its group."""
    writer = Writer(store, group_bytes_max=16)
    first = writer.submit(change("1"))
    store.begun.acquire()
    queued = [writer.submit(change(str(number))) for number in range(2, 4)]
    store.untidy = 4
    for _ in range(3):
        store.go.release()
    for future in (first, *queued):
        future.result()
    writer.close()
    assert store.groups == [1, 1, 1]
    assert store.maintained[:2] == [False, True]


@pytest.mark.parametrize(
    "failure", [StoreFull("no space"), StoreFailed("broken"), ZeroDivisionError("a bug")]
)
def test_failing_housekeeping_harms_nobody(
    store: Gated, writer: Writer, failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    store.housekeeping_failure = failure
    for _ in range(3):
        store.go.release()
        writer.submit([]).result()
    writer.close()
    assert store.groups == [1, 1, 1]
    assert "housekeeping failed" in caplog.text


def test_many_threads_submit(store: Gated, writer: Writer) -> None:
    for _ in range(1000):
        store.go.release()

    def submit(page: int) -> None:
        for number in range(50):
            writer.submit(change(f"{page} {number}", page)).result()

    threads = [threading.Thread(target=submit, args=(page,)) for page in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(store.groups) == 400
    assert store.fetch(1, range(8)) == {page: f"{page} 49".encode().ljust(16) for page in range(8)}
