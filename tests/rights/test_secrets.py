"""No secret anywhere but where it belongs: tokens, passwords and bytes of accounts are looked for in all that comes out."""

import base64
import http.client
import io
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import pytest

import everspace
from app.settings import Settings
from everspace._session import Settings as ClientSettings
from everspace.transport import Request
from tests.app.support import ANON_FIXED, BASE, PAGE, PROT_RW
from tests.conformance.support.service import EVERSPACED, Service, run

SECRET = b"bytes-that-are-nobody-else-s"
UNKNOWN = "evs_" + "Canary" * 7 + "0"
HIDDEN = "canary" * 2
USER = f"user:{HIDDEN}"
FORMATS = ("json", "console")


@contextmanager
def service_of(tmp_path: Path, log_format: str) -> Iterator[Service]:
    env = {"EVERSPACE_LOG_LEVEL": "debug", "EVERSPACE_LOG_FORMAT": log_format}
    with Service(tmp_path / "data", env) as service:
        yield service


def ask(
    service: Service, method: str, target: str, headers: dict[str, str], body: bytes = b""
) -> tuple[int, bytes]:
    """Status, and head and body as they came."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)
    try:
        connection.request(method, target, body, headers)
        answer = connection.getresponse()
        return answer.status, str(answer.getheaders()).encode() + answer.read()
    finally:
        connection.close()


def work(service: Service, token: str) -> bytes:
    """An account's day: calls that do and calls that fail, with its token in every place where people put one; what it heard."""
    heard = io.BytesIO()
    with everspace.connect(service.url, token) as client, client.spawn("worker") as task:
        vid = task.vas_create("room", 0o600)
        task.vas_attach(0, vid, "rw")
        task.vas_switch(vid)
        task.mmap(BASE, PAGE, PROT_RW, ANON_FIXED)
        task.write(BASE, SECRET)
        for call in (
            lambda: task.read(0, 8),
            lambda: task.vas_delete(vid),
            lambda: task.vas_create("room", 0o600),
        ):
            with pytest.raises(everspace.VasError) as caught:
                call()
            heard.write("".join(traceback.format_exception(caught.value)).encode())
        task.core(heard)
        heard.write(task.maps().encode() + task.smaps().encode())
        good = {"Authorization": f"Bearer {token}"}
        for method, target, headers in (
            ("GET", f"/v1/vas?access_token={token}", {}),
            ("GET", f"/v1/vas?token={token}&name={token}", good),
            ("GET", f"/v1/{token}", good),
            ("GET", f"/{token}", {}),
            ("GET", "/v1/vas", {"Authorization": token}),
            (
                "GET",
                "/v1/vas",
                {"Authorization": f"Basic {base64.b64encode(f'x:{token}'.encode()).decode()}"},
            ),
            ("GET", "/v1/vas", {"Authorization": f"bearer  {token}"}),
            ("GET", "/v1/vas", {"Authorization": f"Bearer {UNKNOWN}"}),
            ("GET", "/v1/none", {**good, "X-Request-Id": token}),
            ("GET", "/v1/vas", {"Cookie": f"token={token}", "X-Api-Key": token}),
            ("POST", "/v1/vas", {**good, "Content-Type": "application/json"}),
            ("PATCH", "/v1/vas/1", {**good, "If-Match": f'"{UNKNOWN}"'}),
            (
                "PUT",
                f"/v1/tasks/{task.pid}/memory?addr=0x10",
                {**good, "Content-Type": "application/octet-stream"},
            ),
        ):
            body = SECRET if method in ("PUT", "PATCH") else b'{"name": 5, "mode": "' + SECRET + b'"}'
            heard.write(ask(service, method, target, headers, b"" if method == "GET" else body)[1])
    return heard.getvalue()


@pytest.mark.parametrize("log_format", FORMATS)
def test_tokens_and_bytes_are_in_no_log_no_answer_and_no_file(tmp_path: Path, log_format: str) -> None:
    with service_of(tmp_path, log_format) as service:
        root, token = service.root_token, service.account(1001, 1001, name="ada")
        heard = work(service, token)
        heard = heard.replace(SECRET, b"", 1)  # the core of one's own task has one's own bytes
        assert SECRET not in heard
        for path in (
            "/metrics",
            "/version",
            "/docs",
            "/openapi.json",
            "/healthz",
            "/readyz",
            "/docs/start.js",
        ):
            status, public = ask(service, "GET", path, {})
            assert status == 200
            heard += public
        stranger = service.account(1003, 1003)
        told = {"Authorization": f"Bearer {stranger}"}
        for path in ("/v1/vas", "/v1/segments", "/v1/tasks", "/v1/audit", "/v1/account"):
            heard += ask(service, "GET", path, told)[1]
        everything = {"Authorization": f"Bearer {root}"}
        for path in ("/v1/vas", "/v1/segments", "/v1/tasks", "/v1/audit?limit=1000", "/v1/account"):
            heard += ask(service, "GET", path, everything)[1]
        listed = "".join(service.everspaced(command).stdout for command in ("token list", "account list"))
        assert service.stop() == 0
        said = service.said().encode()
        assert b"request" in said, "the log is on"
        places = {"log": said, "answers": heard, "lists": listed.encode()}
        for file in service.data_dir.iterdir():
            if file.name != "root.token":
                places[file.name] = file.read_bytes()
    for name, text in places.items():
        for secret in (root, token, stranger, UNKNOWN):
            # an error may repeat what was asked for to the one who asked, and nobody else
            if name != "answers" or secret in (root, stranger):
                assert secret.encode() not in text, (name, secret[:8])
        if name not in ("store.lmdb", "answers"):
            assert SECRET not in text, name
            assert base64.b64encode(SECRET)[:-4] not in text, name
    assert any(sha256(token.encode()).digest() in text for name, text in places.items() if "accounts" in name)


@pytest.mark.parametrize("log_format", FORMATS)
def test_nobody_writes_lines_into_the_log(tmp_path: Path, log_format: str) -> None:
    """Line feeds and terminal escapes of a path, or of a request id, are no lines and no escapes of the log."""
    with service_of(tmp_path, log_format) as service:
        headers = {"Authorization": f"Bearer {service.root_token}", "X-Request-Id": "mine"}
        for path in (
            "/v1/vas%0Aforged line",
            "/v1/vas%0D%0Aforged line",
            "/%0Aforged line",
            "/v1/tasks/1%0Aforged line/memory",
        ):
            assert ask(service, "GET", path.replace(" ", "%20") + "%1b[31m", headers)[0] in (401, 404, 400)
        assert service.stop() == 0
        said = service.said()
    assert "forged line" in said
    assert not [line for line in said.splitlines() if line.startswith("forged line")]
    assert "\x1b[31m" not in said


async def test_a_defect_tells_the_log_and_not_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A traceback goes to the log without tokens; the answer says nothing of the inside."""
    from engine.machine import Machine
    from tests.app.support import running

    def broken(*_: object) -> None:
        raise RuntimeError("broken-inside")

    async with running(tmp_path / "data") as site:
        pid = await site.task()
        for name in ("vas_list", "read", "fork"):
            monkeypatch.setattr(Machine, name, broken)
        answers = [
            await site.call("GET", "/vas"),
            await site.read(pid, 0x401000, 4),
            await site.call("POST", f"/tasks/{pid}/fork", {}),
            await site.batch(pid, ("fork", {})),
        ]
        for answer in answers:
            assert (answer.status, answer.errno) == (500, "EIO"), answer
            for inside in ("broken-inside", "Traceback", "RuntimeError", str(tmp_path), ".py"):
                assert inside not in answer.body.decode(), answer
    assert caplog.text.count("broken-inside") >= 4
    assert site.token not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql+psycopg://{USER}@127.0.0.1:1/none",
        f"postgresql+psycopg://{USER}@[::1/none",
        f"{HIDDEN}",
    ],
)
def test_a_password_of_the_database_is_not_told(tmp_path: Path, url: str) -> None:
    for command in (["serve", "--port", "0"], ["account list"]):
        words = [EVERSPACED, *" ".join(command).split(), "--data-dir", str(tmp_path / "data")]
        done = run(words, env={"EVERSPACE_ACCOUNTS_URL": url, "EVERSPACE_LOG_LEVEL": "debug"})
        assert done.returncode in (1, 2), done
        assert HIDDEN not in done.stdout + done.stderr, done


def test_what_is_printed_of_settings_and_requests_has_no_secret(tmp_path: Path) -> None:
    url = f"postgresql://{USER}@host/base"
    shown = repr(Settings(data_dir=tmp_path, accounts_url=url))
    shown += repr(ClientSettings(UNKNOWN)) + repr(
        Request("GET", "/v1/vas", (("Authorization", f"Bearer {UNKNOWN}"),))
    )
    with everspace.connect("http://127.0.0.1:1", UNKNOWN) as client:
        shown += repr(client) + repr(client.session) + repr(client.session.settings)
        with pytest.raises(everspace.TransportError) as caught:
            client.version()
        shown += repr(caught.value) + "".join(traceback.format_exception(caught.value))
    assert HIDDEN not in shown
    assert UNKNOWN not in shown


def test_a_page_that_describes_the_interface_keeps_no_token() -> None:
    start = (Path(__file__).parents[2] / "app" / "static" / "start.js").read_text(encoding="utf-8")
    assert "persistAuthorization: false" in start


async def test_spans_of_requests_have_no_token(tmp_path: Path) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from app.serving.telemetry import Tracing
    from tests.app.support import running

    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    async with running(tmp_path / "data") as site:
        site.app.observers.append(Tracing(provider).observe)
        for path in (f"/v1/vas?token={site.token}", f"/v1/{site.token}", f"/{site.token}"):
            await site.send("GET", path, headers={"x-request-id": site.token})
        provider.shutdown()
        told = "".join(span.to_json() for span in spans.get_finished_spans())
    assert told.count("url.path") == 3
    assert site.token not in told
