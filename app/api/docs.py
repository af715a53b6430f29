"""The API described: /openapi.json and, without any network, /docs."""

import json
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from starlette.responses import FileResponse, Response

from app.errors import HttpProblem

router = APIRouter(include_in_schema=False)

STATIC = Path(__file__).parent.parent / "static"
MEDIA = {".css": "text/css", ".js": "text/javascript", ".png": "image/png"}
FILES = {path.name: MEDIA[path.suffix] for path in STATIC.iterdir() if path.suffix in MEDIA}
POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Everspace API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" type="image/png" href="docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""


@router.get("/openapi.json")
async def document(request: Request) -> Response:
    """The OpenAPI document. It is written once: anybody may ask for it, and writing it takes long."""
    app = request.app
    written: bytes | None = getattr(app.state, "document", None)
    if written is None:
        written = app.state.document = json.dumps(app.openapi()).encode("ascii")
    return Response(written, media_type="application/json")


@router.get("/docs")
async def page() -> HTMLResponse:
    """The document as a page; everything on it comes from this service."""
    return HTMLResponse(PAGE, headers={"content-security-policy": POLICY})


@router.get("/docs/{name}")
async def asset(name: str) -> Response:
    """A file of the page."""
    media = FILES.get(name)
    if media is None:
        raise HttpProblem(404, f"no file {name:.100}")
    return FileResponse(STATIC / name, media_type=media, headers={"cache-control": "max-age=3600"})


@router.get("/favicon.ico")
async def favicon() -> Response:
    """What browsers ask for by themselves."""
    return FileResponse(STATIC / "favicon-32x32.png", media_type="image/png")
