"""Traces: what a collector on this machine is sent, and that nothing is loaded where nobody asked for it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from app.main import create_app
from app.settings import Settings
from tests.app.support import BASE, running
from tests.conformance.support.service import Service, free_port

TRACE = bytes(range(1, 17)).hex()
PARENT = bytes(range(1, 9)).hex()
MINE = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Collector:
    """Takes traces by OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        self.paths: set[str] = set()
        mine = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                mine.paths.add(self.path)
                body = self.rfile.read(int(self.headers["content-length"]))
                for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                    mine.resources.append({a.key: a.value.string_value for a in group.resource.attributes})
                    for scope in group.scope_spans:
                        mine.spans += scope.spans
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @contextmanager
    def running(self) -> Iterator["Collector"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def of(self, name: str) -> list[Span]:
        """The spans of that name."""
        return [span for span in self.spans if span.name == name]


def attributes(span: Span) -> dict[str, object]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


@pytest.fixture(autouse=True)
def nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No collector of whoever runs the tests."""
    for name in MINE:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def collector() -> Iterator[Collector]:
    """One that runs."""
    with Collector().running() as started:
        yield started


async def test_requests_and_commits_are_spans(tmp_path: Path, collector: Collector) -> None:
    async with running(tmp_path / "data", otlp_endpoint=collector.url) as site:
        pid, _ = await site.inside()
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "content-type": "application/octet-stream"}
        answer = await site.send("PUT", f"/v1/tasks/{pid}/memory?addr={BASE:#x}", [b"x"], headers)
        assert answer.status < 300
        assert (await site.read(pid, 0, 1)).errno == "EFAULT"
        assert (await site.send("GET", "/v1/vas", token="evs_unknown")).status == 401
    assert collector.paths == {"/v1/traces"}
    assert collector.resources[0]["service.name"] == "everspaced"
    (write,) = collector.of("write")
    assert (write.trace_id.hex(), write.parent_span_id.hex()) == (TRACE, PARENT)
    assert write.kind == Span.SpanKind.SPAN_KIND_SERVER
    assert write.start_time_unix_nano < write.end_time_unix_nano
    told = attributes(write)
    assert told["http.response.status_code"] == answer.status
    assert told["http.request.method"] == "PUT"
    assert told["everspace.request_id"] == answer.headers["x-request-id"]
    assert told["enduser.id"] == "0"
    (read,) = collector.of("read")
    assert attributes(read)["error.type"] == "EFAULT"
    assert read.status.code == Status.StatusCode.STATUS_CODE_UNSET  # a caller's mistake is not the service's
    commits = collector.of("commit")
    assert commits
    assert all(attributes(commit)["everspace.transactions"] == 1 for commit in commits)
    sent = b"".join(span.SerializeToString() for span in collector.spans)
    assert site.token.encode() not in sent
    assert b"evs_" not in sent


def test_opentelemetry_s_own_variables_switch_it_on(tmp_path: Path, collector: Collector) -> None:
    with Service(tmp_path / "data", {MINE[0]: collector.url}) as service:
        service.http().call("GET", "/v1/vas")
        assert service.stop() == 0
        assert service.said() == ""
    assert len(collector.of("vas_find")) == 1


def test_a_collector_that_is_away_keeps_nobody(tmp_path: Path) -> None:
    settings = {"EVERSPACE_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    with Service(tmp_path / "data", settings) as service:
        service.http().call("GET", "/v1/vas")
        assert service.stop() == 0
        assert "Traceback" not in service.said()


async def test_nobody_asked_and_nothing_is_there(tmp_path: Path) -> None:
    app = create_app(Settings(data_dir=tmp_path / "data"))
    await app.service.start()
    try:
        assert app.service.at_end == []
    finally:
        await app.service.stop()
