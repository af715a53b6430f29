"""The OpenAPI document: FastAPI's, with the hot routes, one kind of error and the bearer token added.

`python -m app.openapi FILE` writes it, as `make openapi` does; without FILE it is printed.
"""

import json
import re
import sys
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from fastapi.openapi.utils import get_openapi
from fastapi.telemetry import TelemetryConfig
from starlette.routing import BaseRoute

from app.calls.answers import Problem
from app.calls.fields import WORD_MAX
from app.routes.hot import HotRoute, header
from app.routes.links import linked
from everspace.wire import API_PREFIX, ERRNO_STATUS, MEDIA_PROBLEM

API_VERSION: Final = "1"
DESCRIPTION: Final = (
    "Persistent first-class virtual address spaces. Operation ids are the names of the calls. "
    "Addresses are hex strings in answers; requests may also use decimal strings and integers. "
    "Every error is a problem document; errors of calls carry `errno`."
)
NO_TELEMETRY: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
REFUSED_ANYWHERE: Final = (414, 431)
"""What any target may be refused with: its address or its head is too long."""
REFUSED_OF_API: Final = (400, 401, 403, 429, 500, 503, 507)
"""What any call may be refused with, whatever it is about: malformed, no token, too narrow a token, too often,
the service failed, is starting or stopping, or has no room."""
REFUSED_WITH_BODY: Final = (408, 413)
"""Bodies that come too slowly or are too long."""
REFUSED_WITH_HEADER: Final = {"idempotency-key": (409, 422), "if-match": (412,), "range": (416,)}
"""What a request with such a header may be refused with."""
_ERRNO: Final = re.compile(r"\bE[A-Z0-9]+\b")


def document(title: str, routes: list[BaseRoute], hot_routes: list[HotRoute]) -> dict[str, Any]:
    """The whole document."""
    described = get_openapi(title=title, version=API_VERSION, description=DESCRIPTION, routes=routes)
    _exact(described)
    paths: dict[str, Any] = described["paths"]
    for path, operations in paths.items():
        if path.startswith(API_PREFIX):
            for method, operation in operations.items():
                _readable(operation) if method == "get" else _conditional(operation)
    for route in hot_routes:
        paths[route.path] = {method: dict(operation) for method, operation in route.operations.items()}
    refused: set[int] = set()
    for path, operations in paths.items():
        for operation in operations.values():
            responses = operation["responses"] = {
                status: dict(response)
                for status, response in operation["responses"].items()
                if status != "422"
            }
            for status in refusals(path, operation):
                refused.add(status)
                responses.setdefault(str(status), {"$ref": f"#/components/responses/{_name_of(status)}"})
            if path.startswith(API_PREFIX):
                operation["security"] = [{"token": []}]
    components: dict[str, Any] = described.setdefault("components", {})
    shapes: dict[str, Any] = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        shapes.pop(unused, None)
    shapes["Problem"] = Problem.model_json_schema()
    components["responses"] = {_name_of(status): _refusal(status) for status in sorted(refused)}
    components["links"] = linked(paths)
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    described["paths"] = dict(sorted(paths.items()))
    return described


def refusals(path: str, operation: Mapping[str, Any]) -> set[int]:
    """The statuses that an operation may refuse with: those of the errnos that its description names, and common ones."""
    statuses = {ERRNO_STATUS[errno] for errno in _ERRNO.findall(operation.get("description", ""))}
    statuses.update(REFUSED_ANYWHERE)
    if path.startswith(API_PREFIX):
        statuses.update(REFUSED_OF_API)
    if "{pid}" in path:
        statuses.add(ERRNO_STATUS["ESRCH"])
    if "requestBody" in operation:
        statuses.update(REFUSED_WITH_BODY)
    for parameter in operation.get("parameters", ()):
        statuses.update(REFUSED_WITH_HEADER.get(parameter["name"].lower(), ()))
    return statuses


def _readable(operation: dict[str, Any]) -> None:
    """What every GET of the control routes takes and tells besides, in place (app/routes/routing.py)."""
    parameters = operation.setdefault("parameters", [])
    told: dict[str, Any] = {"ETag": {"schema": {"type": "string"}, "description": "Of the answer; strong."}}
    if any(parameter["name"] == "cursor" for parameter in parameters):
        told["Link"] = {
            "schema": {"type": "string"},
            "description": "rel=next: the next part, if there is one.",
        }
    parameters += [
        header("If-Match", "Tags; ESTALE unless one of them is the answer's."),
        header("If-None-Match", "Tags; 304 if one of them is the answer's."),
    ]
    operation["responses"]["200"]["headers"] = told
    operation["responses"]["304"] = {"description": "As it was when it had that tag."}


def _conditional(operation: dict[str, Any]) -> None:
    """What everything else takes besides, in place: a condition, which holds nowhere if there is nothing to be read."""
    parameters = operation.setdefault("parameters", [])
    if all(parameter["name"].lower() != "if-match" for parameter in parameters):
        parameters.append(
            header("If-Match", "Tags; ESTALE unless one of them is that of what is at this path.")
        )


def _name_of(status: int) -> str:
    """A response's name among the components."""
    return HTTPStatus(status).phrase.replace(" ", "")


def _refusal(status: int) -> dict[str, Any]:
    """A problem document of that status, with the errnos that it may have."""
    errnos = sorted(errno for errno, its_status in ERRNO_STATUS.items() if its_status == status)
    members: dict[str, Any] = {"status": {"const": status}}
    if errnos:
        members["errno"] = {"enum": errnos}
    shape = {"allOf": [{"$ref": "#/components/schemas/Problem"}, {"properties": members}]}
    description = (
        f"{HTTPStatus(status).phrase}: {', '.join(errnos)}." if errnos else f"{HTTPStatus(status).phrase}."
    )
    return {"description": description, "content": {MEDIA_PROBLEM: {"schema": shape}}}


def _exact(part: Any) -> None:
    """Puts right, in place, the bounds that FastAPI made floats: 2**64 - 1 is none that a float can be."""
    for value in part.values() if isinstance(part, dict) else part:
        if isinstance(value, dict | list):
            _exact(value)
    if isinstance(part, dict) and part.get("maximum") == float(WORD_MAX):
        part["maximum"] = WORD_MAX


def text(described: Mapping[str, Any]) -> str:
    """The document as the golden file has it."""
    return json.dumps(described, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write the document to the named file, or print it."""
    from app.main import control_app

    rendered = text(control_app(None).openapi())
    if arguments:
        Path(arguments[0]).write_text(rendered, encoding="utf-8")
    else:
        sys.stdout.write(rendered)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
