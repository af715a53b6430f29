"""What `spawn` and its like return: to be awaited, or entered with `async with` at once."""

from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar


class Entered(Protocol):
    """An async context manager that gives itself."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


E = TypeVar("E", bound=Entered)


class Entering(Generic[E]):
    """`task = await client.spawn()` and `async with client.spawn() as task:` mean what they look like."""

    def __init__(self, making: Coroutine[Any, Any, E]) -> None:
        self._making = making
        self._made: E | None = None

    def __await__(self) -> Generator[Any, Any, E]:
        return self._making.__await__()

    async def __aenter__(self) -> E:
        self._made = await self._making
        return await self._made.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._made is not None:
            await self._made.__aexit__(kind, error, trace)
