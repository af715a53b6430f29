"""The operation that a request is for, also of one that is refused before any route has seen it."""

import re
from collections.abc import Iterable, Mapping

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.routing import compile_path

from app.routes.hot import OPERATION_OF, HotRoute


class Naming:
    """Operation ids by method and path: of routers, each under its prefix, and of hot routes by the words of their paths."""

    def __init__(
        self, routers: Iterable[tuple[str, APIRouter]], hot: Mapping[tuple[str, ...], HotRoute]
    ) -> None:
        self._hot = hot
        self._known: dict[str, list[tuple[re.Pattern[str], str]]] = {}
        for prefix, router in routers:
            for route in router.routes:
                if isinstance(route, APIRoute) and route.operation_id is not None:
                    pattern, _, _ = compile_path(prefix + route.path)
                    for method in route.methods or ():
                        self._known.setdefault(method, []).append((pattern, route.operation_id))

    def operation_of(self, method: str, path: str) -> str:
        """The operation's id, that of GET for HEAD; "" if there is none."""
        parts = path.split("/")
        hot = self._hot.get(tuple(parts[2::2])) if len(parts) in (3, 5) else None
        if hot is not None:
            return str(hot.operations[OPERATION_OF[method]]["operationId"]) if method in hot.handlers else ""
        known = self._known.get("GET" if method == "HEAD" else method, ())
        return next((operation for pattern, operation in known if pattern.match(path)), "")

    def allowed(self, path: str) -> str:
        """The methods that there are for the path of a control route, as Allow tells them; HEAD wherever GET is."""
        found = {
            method for method, known in self._known.items() if any(each.match(path) for each, _ in known)
        }
        return ", ".join(sorted(found | {"HEAD"} if "GET" in found else found))
