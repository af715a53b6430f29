"""What is asked of a list: which part, and a link to the one behind it in the answer's head (RFC 8288)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Request, Response

from app.http import paging
from app.http.exchange import parse_query
from app.routes.routing import LIMIT, Cursor, Limit

V = TypeVar("V")


class Listing:
    """The part that a request asks for. Giving it out puts the link to the next one into the answer's head."""

    __slots__ = ("_query", "_response", "cursor", "limit")

    def __init__(self, response: Response, query: bytes, cursor: str | None, limit: int) -> None:
        self._response = response
        self._query = query
        self.cursor = cursor
        self.limit = limit

    def part(self, items: Sequence[V], key: Callable[[V], int]) -> tuple[Sequence[V], str | None]:
        """The items, and the cursor of the next part. `items` ascend by `key`. EINVAL: not one of our cursors."""
        chosen, following = paging.part(items, key, self.cursor, self.limit)
        return chosen, self.linked(following)

    def part_of_names(self, items: Mapping[str, V]) -> tuple[Sequence[tuple[str, V]], str | None]:
        """The same of things by name."""
        chosen, following = paging.part_of_names(items, self.cursor, self.limit)
        return chosen, self.linked(following)

    def linked(self, following: str | None) -> str | None:
        """That cursor, linked. The link is relative to the request, so that it holds behind any proxy's prefix."""
        if following is not None:
            query = urlencode({**parse_query(self._query), "cursor": following})
            self._response.headers["link"] = f'<?{query}>; rel="next"'
        return following


async def _listing(
    request: Request, response: Response, cursor: Cursor = None, limit: Limit = LIMIT
) -> Listing:
    return Listing(response, request.scope["query_string"], cursor, limit)


ListingDep = Annotated[Listing, Depends(_listing)]
