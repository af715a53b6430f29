"""A store that takes long to open: sockets answer meanwhile, SIGTERM is obeyed, and a failure is one line and status 2."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.app.metered import samples
from tests.conformance.support.http import Http, checked_problem
from tests.conformance.support.service import EVERSPACED, environment, free_port, run, until

MINE = "tests.e2e.held_opening"


class Held:
    """A service that opens when it is told to."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, pipe: Path) -> None:
        self.process = process
        self.http = Http(port, "nobody's")
        self._pipe = pipe

    def go_on(self) -> None:
        """Let it open."""
        self._pipe.write_bytes(b"")

    def answers(self) -> bool:
        """Whether somebody listens."""
        assert self.process.poll() is None, self.process.communicate()
        try:
            return self.http.request("GET", "/healthz").status == 200
        except OSError:
            return False


@contextmanager
def held(tmp_path: Path, *failure: str) -> Iterator[Held]:
    """One that waits with its opening."""
    pipe, port = tmp_path / "pipe", free_port()
    os.mkfifo(pipe)
    command = [sys.executable, "-m", MINE, str(tmp_path / "data"), str(port), str(pipe), *failure]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        made = Held(process, port, pipe)
        try:
            until("it listens", made.answers, 60)
            yield made
        finally:
            made.http.close()
            process.kill()


def test_sockets_answer_while_the_store_is_recovered(tmp_path: Path) -> None:
    with held(tmp_path) as service:
        http = service.http
        assert http.request("GET", "/healthz").body == b"ok\n"
        for method, path in (
            ("GET", "/readyz"),
            ("GET", "/v1/vas"),
            ("POST", "/v1/tasks"),
            ("GET", "/version"),
        ):
            answer = http.request(method, path)
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert "recovering" in checked_problem(answer)["detail"]
            assert answer.headers["x-content-type-options"] == "nosniff"
        assert http.request("HEAD", "/readyz").body == b""
        told = samples(http.request("GET", "/metrics").text)
        assert told["everspace_ready", frozenset()] == 0
        assert told["process_open_fds", frozenset()] > 0
        service.go_on()
        until("it is ready", lambda: http.request("GET", "/readyz").status == 200)
        assert http.request("GET", "/v1/vas").status == 401
        assert samples(http.request("GET", "/metrics").text)["everspace_ready", frozenset()] == 1
        service.process.send_signal(signal.SIGTERM)
        out, err = service.process.communicate(timeout=30)
        assert (service.process.returncode, err) == (0, "")
        assert "is served on http://127.0.0.1:" in out


def test_sigterm_while_the_store_is_recovered(tmp_path: Path) -> None:
    with held(tmp_path) as service:
        service.process.send_signal(signal.SIGTERM)
        service.go_on()
        out, err = service.process.communicate(timeout=30)
        assert (service.process.returncode, out) == (0, "")
        assert "Traceback" not in err
    assert run([EVERSPACED, "fsck", str(tmp_path / "data")]).returncode in (0, 2)  # 2: it was never made


def test_sigterm_while_a_step_does_not_end(tmp_path: Path) -> None:
    with held(tmp_path) as service:
        service.process.send_signal(signal.SIGTERM)
        _, err = service.process.communicate(timeout=60)
        assert service.process.returncode == 0
        assert "left while the store was being opened" in err
        assert "Traceback" not in err


@pytest.mark.parametrize("stopped", [False, True])
def test_an_opening_that_fails_is_one_line_and_status_2(tmp_path: Path, stopped: bool) -> None:
    with held(tmp_path, "the disk is\nupside down") as service:
        if stopped:
            service.process.send_signal(signal.SIGTERM)
        service.go_on()
        out, err = service.process.communicate(timeout=30)
        assert (service.process.returncode, out) == (2, "")
        assert err == "everspaced: the disk is upside down\n"
