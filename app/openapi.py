"""The OpenAPI document: FastAPI's, with the hot routes, one kind of error and the bearer token added.

`python -m app.openapi FILE` writes it, as `make openapi` does; without FILE it is printed.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fastapi.openapi.utils import get_openapi
from fastapi.telemetry import TelemetryConfig
from starlette.routing import BaseRoute

from app.answers import Problem
from app.fields import WORD_MAX
from app.hot import HotRoute
from everspace.wire import API_PREFIX, MEDIA_PROBLEM

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
PROBLEM: Final[Mapping[str, Any]] = {
    "description": "A problem document.",
    "content": {MEDIA_PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def document(title: str, routes: list[BaseRoute], hot_routes: list[HotRoute]) -> dict[str, Any]:
    """The whole document."""
    described = get_openapi(title=title, version=API_VERSION, description=DESCRIPTION, routes=routes)
    _exact(described)
    paths: dict[str, Any] = described["paths"]
    for route in hot_routes:
        paths[route.path] = {method: dict(operation) for method, operation in route.operations.items()}
    for path, operations in paths.items():
        for operation in operations.values():
            responses = operation["responses"] = dict(operation["responses"])
            responses.pop("422", None)
            responses["default"] = PROBLEM
            if path.startswith(API_PREFIX):
                operation["security"] = [{"token": []}]
    components: dict[str, Any] = described.setdefault("components", {})
    shapes: dict[str, Any] = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        shapes.pop(unused, None)
    shapes["Problem"] = Problem.model_json_schema()
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    described["paths"] = dict(sorted(paths.items()))
    return described


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
