"""A store in a process of its own that does what it is told, a line at a time, and answers each with a line.

python obeying.py DIR SEED [eager]

commit     the next transaction of the workload     "ok", or the name of the error
check      compares all that is there               "same", or what differs
failing    whether writing works                    "no", or the name of the error
probe, tidy, close                                  "ok", or the name of the error
watch      a thread reads from now on               "ok"
seen       ends it                                  "nothing", or the error that it met
"""

import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from engine.geometry import X86_64
from storage import open_store
from storage.errors import StoreError
from storage.lmdb.housekeeping import Tuning
from storage.lmdb.store import LmdbStore
from tests.crash.workload import EAGER, Expectation, reached, transaction


class Obeying:
    """The store, and the model of what it must hold."""

    def __init__(self, data_dir: Path, seed: int, tuning: Tuning) -> None:
        self.store: LmdbStore = open_store(data_dir, X86_64, tuning=tuning)
        self.seed = seed
        self.last = reached(self.store)
        self.expected = Expectation(seed)
        self.met = ""
        self.watcher = threading.Thread(target=self.read)
        self.stopping = threading.Event()

    def commit(self) -> str:
        self.store.commit([transaction(self.seed, self.last + 1)])
        self.last += 1
        return "ok"

    def check(self) -> str:
        return self.expected.difference(self.store, self.last) or "same"

    def failing(self) -> str:
        return "no" if self.store.failing is None else type(self.store.failing).__name__

    def probe(self) -> str:
        self.store.probe()
        return "ok"

    def tidy(self) -> str:
        while self.store.maintain():
            pass
        return "ok"

    def close(self) -> str:
        self.store.close()
        return "ok"

    def watch(self) -> str:
        self.watcher.start()
        return "ok"

    def seen(self) -> str:
        self.stopping.set()
        self.watcher.join()
        return self.met or "nothing"

    def read(self) -> None:
        while not self.stopping.is_set():
            try:
                self.store.fetch(1, range(400))
                self.store.stored_pages(1, 0, 400)
                self.store.usage([1])
            except StoreError as error:
                self.met = repr(error)


def answer(what: Callable[[], str]) -> str:
    """What came of it."""
    try:
        return what()
    except StoreError as error:
        return type(error).__name__


def main() -> None:
    """Obey until the end of standard input."""
    logging.disable(logging.WARNING)  # failures are what this process is for
    tuning = EAGER if sys.argv[3:] == ["eager"] else Tuning()
    obeying = Obeying(Path(sys.argv[1]), int(sys.argv[2]), tuning)
    for line in sys.stdin:
        sys.stdout.write(answer(getattr(obeying, line.strip())) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
