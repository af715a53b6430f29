"""Both sides in one mode: compare sequences, and find the shortest on which they differ."""

from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Self

from tests.oracle import simulated
from tests.oracle.calls import Call
from tests.oracle.compare import Difference, shrink, steps_of
from tests.oracle.generate import generate
from tests.oracle.kernel import Kernel
from tests.oracle.modes import Mode
from tests.oracle.play import Record

RESIDENCY = "end: mincore"


class Oracle:
    """A kernel's side that is running, and the engine. `residency`: also compare mincore at the end of processes."""

    def __init__(self, mode: Mode, *, residency: bool = True) -> None:
        self.mode = mode
        self.kernel = Kernel(mode)
        self.residency = residency

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kernel.close()

    def generate(self, seed: int, calls: int = 40, only: Collection[str] = ()) -> list[Call]:
        """The sequence of a seed, as this kernel can run it."""
        usable = [name for name in only or self.mode.calls if name != "brk" or self.kernel.can["brk"]]
        return generate(seed, self.mode, calls, unreadable=self.kernel.can["unreadable"], only=usable)

    def difference(self, calls: Sequence[Call]) -> Difference | None:
        """Run a sequence on both sides, at the same time."""
        steps = steps_of(calls)
        self.kernel.start(steps)
        engine = simulated.run(steps, self.mode, self.kernel.can)
        found = Difference(calls, self._seen(self.kernel.records()), self._seen(engine))
        return None if found.kernel == found.engine else found

    def shrunk(self, found: Difference) -> Difference:
        """The shortest that still differs."""
        return shrink(found, self.difference)

    def _seen(self, records: Sequence[Record]) -> list[Record]:
        return [entry for entry in records if self.residency or entry[0] != RESIDENCY]
