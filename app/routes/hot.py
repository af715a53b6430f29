"""A route of bytes, served without a framework, and its part of the OpenAPI document."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.errors import HttpProblem
from app.http.exchange import Exchange
from app.service import Service

Handler = Callable[[Exchange, Service, str], Awaitable[None]]
"""Takes the id of the path as text."""


OPERATION_OF: Final = {"GET": "get", "HEAD": "get", "PUT": "put", "POST": "post", "PATCH": "patch"}
"""A method, and the member of `operations` that describes it."""


@dataclass(frozen=True, slots=True)
class HotRoute:
    """`path` as OpenAPI writes it; per method the handler and the OpenAPI operation."""

    path: str
    handlers: Mapping[str, Handler]
    operations: Mapping[str, Mapping[str, Any]]

    async def serve(self, exchange: Exchange, service: Service, number: str) -> None:
        """Dispatch by method. Raises HttpProblem 405."""
        method = exchange.method
        handler = self.handlers.get(method)
        if handler is None:
            allow = ", ".join(self.handlers).encode("ascii")
            raise HttpProblem(405, f"{method:.20} is not for this route", (b"allow", allow))
        exchange.operation = self.operations[OPERATION_OF[method]]["operationId"]
        await handler(exchange, service, number)


def query(
    name: str, schema: Mapping[str, Any], description: str, *, required: bool = False
) -> dict[str, Any]:
    """A query parameter of an operation."""
    return {"name": name, "in": "query", "required": required, "schema": schema, "description": description}


def header(name: str, description: str) -> dict[str, Any]:
    """A header parameter of an operation."""
    return {
        "name": name,
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
        "description": description,
    }


def path_id(name: str) -> dict[str, Any]:
    """The id in a path."""
    return {"name": name, "in": "path", "required": True, "schema": {"type": "integer"}}


ADDRESS = {"type": "string", "pattern": "^(0x[0-9a-fA-F]+|[0-9]+)$", "examples": ["0x100000000000"]}
INTEGER = {"type": "integer"}
BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
TID = query("tid", INTEGER, "A thread of the task; by default its main thread.")
DURABILITY = query(
    "durability",
    {"type": "string", "enum": ["commit", "relaxed"], "default": "commit"},
    "commit: on stable storage before the answer. relaxed: at once; msync makes it durable.",
)
