"""A service whose system calls a test decides, and writers that such a service refuses now and then."""

import http.client
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Self

from tests.conformance.support.calls import HttpTask
from tests.conformance.support.http import Problem
from tests.conformance.support.service import Service, environment, free_port, until
from tests.crash.below import Call, Watched
from tests.e2e.writers import Writer


class WatchedService(Service):
    """Calls on the store file are decided by `decide`, which may be exchanged at any time."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir)
        self.decide: Callable[[Call], int] = lambda call: 0
        self._watched: Watched | None = None

    def _decide(self, call: Call) -> int:
        return self.decide(call) if call.path.endswith("/store.lmdb") else 0

    def start(self, port: int = 0) -> Self:
        """Start it watched, and wait until it is ready."""
        self._finish()
        self.port = port or free_port()
        with self.log.open("ab") as log:
            self._watched = Watched.start(
                self.command(),
                self._decide,
                environment(self._env),
                stderr=log.fileno(),
                preload="app.main",
            )
        self._process = self._watched.process
        until("the service is ready", self._ready, 60)
        return self

    def close(self) -> None:
        """End whatever of it is left."""
        super().close()
        self._finish()

    def _finish(self) -> None:
        if self._watched is not None:
            self._watched.finish()
            self._watched = None


class Steadfast(Writer):
    """A writer that goes on after a refusal for the disk's sake: what was refused is not there."""

    refused = 0
    stopping = False

    def work(self, service: Service, seed: int) -> None:
        """Store until no answer comes any more, or until `stopping`."""
        rng = Random(seed)
        connection = service.http()
        try:
            task = HttpTask.spawn(connection)
            task.vas_attach(0, self.vid, 2)
            task.vas_switch(self.vid)
            while not self.stopping:
                try:
                    rng.choice((self.store, self.store, self.two_stores, self.name, self.sync))(task, rng)
                except Problem as problem:
                    if problem.errno not in ("EIO", "ENOSPC"):
                        raise
                    self.refuse()
        except (OSError, http.client.HTTPException):
            return

    def refuse(self) -> None:
        """Pages that were written relaxed before a sync was refused stay, in memory."""
        self.refused += 1
        if self.maybe is not None:
            self.sure.generations |= self.maybe.generations
            self.maybe = None
