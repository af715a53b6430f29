"""Whether the service lives, takes calls, and what it is: /healthz, /readyz, /metrics, /version. Open to all."""

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from app.calls.answers import Version
from app.errors import HttpProblem
from app.service import Service
from app.serving.metrics import MEDIA_METRICS, Metrics

router = APIRouter(tags=["health"])


@router.get(
    "/healthz", operation_id="healthz", summary="Is the process alive", response_class=PlainTextResponse
)
async def healthz() -> str:
    """200 while the process answers."""
    return "ok\n"


@router.get("/readyz", operation_id="readyz", summary="Are calls taken", response_class=PlainTextResponse)
async def readyz(request: Request) -> str:
    """200 when calls are taken, also while nothing can be written; 503 while starting or shutting down, or without accounts."""
    service = _service(request)
    if not service.ready:
        raise HttpProblem(503, "the service is starting or shutting down", (b"retry-after", b"1"))
    if service.authenticator.away is not None:
        raise HttpProblem(503, service.authenticator.away, (b"retry-after", b"1"))
    failing = service.store_failing
    return "ready\n" if failing is None else f"ready; writing fails: {failing}\n"


@router.get(
    "/metrics", operation_id="metrics", summary="Counters for Prometheus", response_class=PlainTextResponse
)
async def metrics(request: Request) -> PlainTextResponse:
    """Counters in the Prometheus text format."""
    metrics: Metrics = request.app.state.metrics
    return PlainTextResponse(metrics.text(), headers={"content-type": MEDIA_METRICS})


@router.get("/version", operation_id="version", summary="Release and geometry")
async def version(request: Request) -> Version:
    """Release, random id of this start, and geometry."""
    service = _service(request)
    geometry = service.machine.geometry
    return Version(
        version=service.version, instance=service.instance, arch=geometry.name, page_size=geometry.page_size
    )


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service
