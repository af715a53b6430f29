"""Finds how two maps differ, step by step (engine/spaces/diff.py), in parts of bounded work.

Each step is a transaction of its own, or a question to the store in a thread, so that other requests go on; rights are
looked at in each. What is told of a page was so at some moment of the request.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from app.service import Service
from engine.spaces.diff import Difference, Pages, Run, Survey, append

WINDOW_PAGES: Final = 1 << 16
"""Pages that both sides map, of the first survey. The next are wider where little may differ."""
WINDOW_PAGES_MIN: Final = 1 << 12
WINDOW_PAGES_MAX: Final = 1 << 36
FEW: Final = 1024
MANY: Final = 16_384
"""Candidates of one survey. With fewer than FEW the next window is wider, with more than MANY it is narrower."""
BLOCK_PAGES: Final = 256
"""Pages that are compared in one go, unless memory is too small for that."""
COMPARED_MAX: Final = 16_384
"""Pages compared for one part."""
SURVEYS_MAX: Final = 64
"""Surveys made for one part."""


class Finder:
    """Makes one part. `look` is called in each transaction; it checks rights and gives both maps as they are then."""

    def __init__(self, service: Service, look: Callable[[], Difference]) -> None:
        self._run = service.executor.run
        self._differing = service.executor.differing
        self._look = look
        self._page_size = service.machine.geometry.page_size
        self._block = max(1, min(BLOCK_PAGES, service.machine.pool.capacity // 4))
        self._compared = 0
        self._found: list[Run] = []

    async def part(self, start: int, limit: int) -> tuple[list[Run], int | None]:
        """At most `limit` runs from `start` on, and where the next part begins; a part may be empty and not the last.

        Raises what `look` raises, ENOMEM and EIO.
        """
        position: int | None = start & -self._page_size
        window, found = WINDOW_PAGES, self._found
        for _ in range(SURVEYS_MAX):
            if position is None or len(found) > limit or self._compared >= COMPARED_MAX:
                break
            survey = await self._run(partial(self._survey, position, window))
            candidates = survey.candidates(await self._differing(survey.questions()))
            position = await self._through(survey, candidates, limit)
            if len(candidates) < FEW:
                window = min(window << 3, WINDOW_PAGES_MAX)
            elif len(candidates) > MANY:
                window = max(window >> 2, WINDOW_PAGES_MIN)
        if len(found) > limit:
            return found[:limit], found[limit].start
        return found, position

    async def _through(self, survey: Survey, candidates: Pages, limit: int) -> int | None:
        """Find all runs of a survey, in order; where it stops, which is before its end when enough is found or done."""
        alone = deque(survey.alone)
        for low in range(0, len(candidates), self._block):
            block = candidates[low : low + self._block]
            if low and (len(self._found) > limit or self._compared >= COMPARED_MAX):
                edge = block.item(0) * self._page_size
                self._append_before(edge, alone)
                return edge
            for run in await self._run(partial(self._compare, block)):
                self._append_before(run.start, alone)
                append(self._found, run)
            self._compared += len(block)
            await asyncio.sleep(0)  # a step that lacks nothing does not wait by itself
        for run in alone:
            append(self._found, run)
        return survey.stop

    def _survey(self, start: int, pages_max: int) -> Survey:
        return self._look().survey(start, pages_max)

    def _compare(self, block: Pages) -> list[Run]:
        return self._look().compare(block)

    def _append_before(self, edge: int, alone: deque[Run]) -> None:
        while alone and alone[0].start < edge:
            append(self._found, alone.popleft())
