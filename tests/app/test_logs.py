"""Logs: every line is an object, tells who asked what, and holds no token and no byte of anybody's memory."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.serving import logs
from app.settings import Settings
from tests.app.support import BASE, running
from tests.conformance.support.http import Http, Problem
from tests.conformance.support.service import EVERSPACED, Service, run

CANARY = "evs_" + "S3cret-" * 6
BYTES = b"the bytes of somebody"


def lines(text: str) -> list[dict[str, Any]]:
    """What was logged; every line is an object."""
    return [json.loads(line) for line in text.splitlines()]


@contextmanager
def configured(tmp_path: Path, **options: Any) -> Iterator[io.StringIO]:
    """Logs into a text, and as before afterwards."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    logs.configure(Settings(data_dir=tmp_path, **options), stream)
    try:
        yield stream
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = before
        root.setLevel(level)


def test_every_line_of_a_service_is_json_without_secrets(tmp_path: Path) -> None:
    settings = {"EVERSPACE_LOG_LEVEL": "debug", "EVERSPACE_HEAD_TIMEOUT": "5"}
    with Service(tmp_path / "data", settings) as service:
        root = service.http()
        token = service.account(1000, 1000, name="ada")
        ada = service.http(token)
        vid = root.call("POST", "/v1/vas", {"name": "space", "mode": 0o600}, status=201).json["id"]
        pid = ada.call("POST", "/v1/tasks", {}, status=201).json["pid"]
        wanted = {"addr": BASE, "length": 4096, "prot": 3, "flags": 0x32}
        ada.call("POST", f"/v1/tasks/{pid}/mmap", wanted)
        ada.call("PUT", f"/v1/tasks/{pid}/memory?addr={BASE:#x}&token={CANARY}", raw=BYTES)
        with pytest.raises(Problem, match="EACCES"):
            ada.call("DELETE", f"/v1/vas/{vid}")
        for bad in (CANARY, f"{CANARY} {token}", "nobody's"):
            with pytest.raises(Problem, match="401"):
                service.http(bad).call("GET", "/v1/vas")
        with pytest.raises(Problem, match="404"):
            root.call("GET", f"/v1/{CANARY}/{token}", headers={"x-request-id": "mine"})
        root.call("GET", f"/v1/vas?name={CANARY}")
        assert service.stop() == 0
        said = service.said()
        secrets = (service.root_token, token, CANARY, BYTES.decode())
    assert not [secret for secret in secrets if secret in said]
    told = lines(said)
    assert {"time", "level", "logger", "message"} <= set.intersection(*(set(line) for line in told))
    requests = [line for line in told if line["logger"] == "everspace.request"]
    write = next(line for line in requests if line["call"] == "write")
    assert write["path"] == f"/v1/tasks/{pid}/memory"
    assert (write["uid"], write["method"], write["peer"]) == (1000, "PUT", "127.0.0.1")
    assert write["ms"] > 0
    refused = next(line for line in requests if line.get("errno") == "EACCES")
    assert (refused["call"], refused["status"], refused["uid"]) == ("vas_delete", 403, 1000)
    strangers = [line for line in requests if line["status"] == 401]
    assert len(strangers) == 3
    assert not any("uid" in line for line in strangers)
    assert next(line for line in requests if line["status"] == 404)["request_id"] == "mine"
    ids = [line["request_id"] for line in requests]
    assert len(set(ids)) == len(ids)


def test_the_id_in_the_log_is_that_of_the_answer(tmp_path: Path) -> None:
    with Service(tmp_path / "data", {"EVERSPACE_LOG_LEVEL": "info"}) as service:
        answer = service.http().call("GET", "/v1/vas")
        service.stop()
        ids = [line.get("request_id") for line in lines(service.said())]
    assert answer.headers["x-request-id"] in ids


def test_a_quiet_service_says_nothing(tmp_path: Path) -> None:
    with Service(tmp_path / "data") as service:
        http: Http = service.http()
        with pytest.raises(Problem):
            http.call("GET", "/v1/tasks/77")
        assert service.stop() == 0
        assert service.said() == ""


def test_a_format_that_there_is_not_is_one_line(tmp_path: Path) -> None:
    done = run([EVERSPACED, "serve", "--data-dir", str(tmp_path / "data"), "--log-format", "xml"])
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "EVERSPACE_LOG_FORMAT" in done.stderr


async def test_requests_that_fail_are_told_at_the_usual_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path / "data") as site:

        def fails(*_: object) -> None:
            raise RuntimeError(f"a defect with {CANARY}")

        monkeypatch.setattr(type(site.service.machine), "read", fails)
        with configured(tmp_path, log_format="json") as stream:
            pid = await site.task()
            answer = await site.read(pid, BASE, 1)
            assert (answer.status, answer.errno) == (500, "EIO")
    defect, request = lines(stream.getvalue())
    assert "RuntimeError: a defect with (struck out)" in defect["exception"]
    assert "Traceback" in defect["exception"]
    assert (request["message"], request["level"], request["status"]) == ("request", "warning", 500)
    assert request["request_id"] == answer.headers["x-request-id"]
    assert CANARY not in stream.getvalue()


@pytest.mark.parametrize("format", ["json", "console"])
def test_tokens_are_struck_out_whoever_writes_them(tmp_path: Path, format: str) -> None:
    with configured(tmp_path, log_format=format) as stream:
        log = logging.getLogger("some.library")
        log.warning("asked with %s", CANARY)
        log.warning("headers %s", {"Authorization": f"Bearer {CANARY[4:]}"})
        log.warning("curl -H 'authorization: bearer %s'", CANARY[4:])
        log.warning("told", extra={"header": CANARY})
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn(f"unused {CANARY}", stacklevel=1)
    text = stream.getvalue()
    assert CANARY[4:] not in text
    assert text.count("(struck out)") >= 5
    if format == "json":
        assert len(lines(text)) == 5


def test_people_get_lines_that_they_can_read(tmp_path: Path) -> None:
    with configured(tmp_path, log_format="console") as stream:
        logging.getLogger("everspace.service").warning("pages stay in memory: %s", "no room")
    text = stream.getvalue()
    assert "pages stay in memory: no room" in text
    assert "{" not in text
    assert "\x1b" not in text


async def test_requests_are_lines_for_people_too(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as site:
        with configured(tmp_path, log_format="console", log_level="info") as stream:
            await site.call("GET", f"/vas/7?token={CANARY}", token=CANARY)
        with configured(tmp_path, log_format="console", log_level="error") as quiet:
            await site.call("GET", "/vas/7")
    text = stream.getvalue()
    assert "status=401" in text
    assert "path=/v1/vas/7" in text
    assert text.count("\n") == 1
    assert quiet.getvalue() == ""


def test_a_file_is_no_terminal(tmp_path: Path) -> None:
    with configured(tmp_path) as stream:
        logging.getLogger("everspace").warning("line\nfeed \x00 \udcff")
    (line,) = lines(stream.getvalue())
    assert line["message"] == "line\nfeed \x00 \udcff"


def test_libraries_are_quiet_unless_defects_are_looked_for(tmp_path: Path) -> None:
    for level, count in (("info", 0), ("debug", 1)):
        with configured(tmp_path, log_level=level) as stream:
            logging.getLogger("uvicorn.error").info("started")
        assert len(lines(stream.getvalue())) == count
