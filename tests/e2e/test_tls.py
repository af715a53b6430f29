"""TLS: who is believed, who is not, what cannot be started with, and certificates that change while it runs."""

import contextlib
import http.client
import os
import select
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import everspace
from tests.app.metered import samples
from tests.conformance.support.service import EVERSPACED, environment, run, until
from tests.e2e.secure import Certificates, SecureService
from tests.e2e.wire import Client, problem

BASE = 0x1000_0000_0000


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority of this module."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[SecureService]:
    """A service with a good certificate."""
    directory = tmp_path_factory.mktemp("secure")
    settings = {"EVERSPACE_HEAD_TIMEOUT": "1", "EVERSPACE_STALL_TIMEOUT": "1"}
    with SecureService(
        directory / "data", certificates.issue("good"), certificates.client(), settings
    ) as service:
        yield service
        assert "Traceback" not in service.said()


def test_calls_are_served_by_tls(secure: SecureService) -> None:
    status, headers, body = secure.ask("/v1/vas")
    assert (status, body) == (200, b'{"items":[],"next":null}')
    assert headers["strict-transport-security"].startswith("max-age=")


def test_another_authority_is_not_believed(secure: SecureService, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        secure.ask("/readyz", Certificates(tmp_path).client())


def test_old_versions_are_not_spoken(secure: SecureService, certificates: Certificates) -> None:
    context = certificates.client()
    with (
        socket.create_connection(("localhost", secure.port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as wrapped,
    ):
        assert wrapped.version() == "TLSv1.3"
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError):
        secure.ask("/readyz", context)


def test_plain_http_gets_no_answer(secure: SecureService) -> None:
    with socket.create_connection(("localhost", secure.port), timeout=30) as plain:
        plain.sendall(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = b""
        with contextlib.suppress(ConnectionError):
            while part := plain.recv(4096):
                answer += part
    assert b"HTTP" not in answer
    assert secure.ask("/readyz")[0] == 200


def test_a_handshake_that_never_comes_is_not_waited_for(secure: SecureService) -> None:
    with socket.create_connection(("localhost", secure.port), timeout=30) as silent:
        assert secure.ask("/readyz")[0] == 200
        with contextlib.suppress(ConnectionError):
            assert silent.recv(4096) == b""


def test_a_client_counts_before_its_handshake(certificates: Certificates, tmp_path: Path) -> None:
    bounds = {"EVERSPACE_CONNECTIONS": "10", "EVERSPACE_CONNECTIONS_PER_PEER": "5"}
    context = certificates.client()
    with (
        SecureService(tmp_path / "data", certificates.issue("counted"), context, bounds) as service,
        contextlib.ExitStack() as stack,
    ):
        assert refused(service, "peer") == 0
        before = open_files(service)
        silent = [stack.enter_context(connect(service, f"127.0.0.{2 + peer // 40}")) for peer in range(80)]
        until("those over a limit are closed", lambda: closed(silent) >= 70)
        assert open_files(service) <= before + 10
        for left in silent:
            left.close()
        until("there is room again", lambda: answers(service))
        assert refused(service, "peer") == 35
        assert refused(service, "total") >= 35
        until("those that left count no more", lambda: b"_connections 1.0" in service.ask("/metrics")[2])


def connect(service: SecureService, source: str) -> socket.socket:
    """A connection of an address of this machine that says nothing."""
    return socket.create_connection(("127.0.0.1", service.port), timeout=30, source_address=(source, 0))


def closed(clients: list[socket.socket]) -> int:
    """How many of them the service has closed."""
    return len(select.select(clients, [], [], 0)[0])


def open_files(service: SecureService) -> int:
    """That the service's process has."""
    return len(list(Path(f"/proc/{service.pid}/fd").iterdir()))


def answers(service: SecureService) -> bool:
    """Whether a connection is let in."""
    try:
        return service.ask("/readyz")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def refused(service: SecureService, limit: str) -> float:
    """Connections that were over a limit."""
    told = samples(service.ask("/metrics")[2].decode("utf-8"))
    return told["everspace_connections_refused_total", frozenset({("limit", limit)})]


def test_slow_clients_are_ended_behind_tls_too(secure: SecureService, certificates: Certificates) -> None:
    context, length = certificates.client(), 32 << 20
    with everspace.connect(secure.url, secure.root_token, ca=str(certificates.ca)) as client:
        sid = client.segments.create("large", BASE, BASE + length, 0o600).sid
    with Client(secure, tls=context) as slow:
        slow.drip(slow.head("GET", "/v1/vas", x_padding="x" * 1000))
        assert problem(slow.rest())[0] == 408
    with Client(secure, buffer=4096, tls=context) as stuck:
        stuck.send(stuck.head("GET", f"/v1/segments/{sid}/data", range=f"bytes=0-{length - 1}"))
        until("it is cut", lambda: cut(secure, "write") == 1, 60)
        assert secure.ask("/v1/vas")[0] == 200


def cut(service: SecureService, phase: str) -> float:
    """Connections that were ended for their slowness."""
    told = samples(service.ask("/metrics")[2].decode("utf-8"))
    return told["everspace_connections_cut_total", frozenset({("phase", phase)})]


def test_sigterm_ends_connections_behind_tls(certificates: Certificates, tmp_path: Path) -> None:
    context = certificates.client()
    with SecureService(tmp_path / "data", certificates.issue("stopped"), context) as service:
        with Client(service, tls=context) as idle, Client(service, tls=context) as stream:
            idle.send(idle.head("GET", "/healthz"))
            assert idle.answer().startswith(b"HTTP/1.1 200")
            stream.send(stream.head("GET", "/v1/events"))
            assert stream.socket.recv(1) == b"H"
            os.kill(service.pid, signal.SIGTERM)
            assert idle.rest() == b""
            assert stream.rest().endswith(b"0\r\n\r\n")
        assert service.stop() == 0
        assert service.said() == ""


def test_an_expired_certificate_is_refused_by_clients(certificates: Certificates, tmp_path: Path) -> None:
    lenient = certificates.client()
    lenient.check_hostname = False
    lenient.verify_mode = ssl.CERT_NONE
    expired = certificates.issue("expired", expired=True)
    with (
        SecureService(tmp_path / "data", expired, lenient) as service,
        pytest.raises(ssl.SSLCertVerificationError, match="expired"),
    ):
        service.ask("/readyz", certificates.client())


def test_only_clients_with_a_certificate_are_let_in(certificates: Certificates, tmp_path: Path) -> None:
    known = certificates.client(certificates.issue("client"))
    authority = {"EVERSPACE_TLS_CLIENT_CA": str(certificates.ca)}
    with SecureService(tmp_path / "data", certificates.issue("mutual"), known, authority) as service:
        assert service.ask("/v1/vas")[0] == 200
        with pytest.raises(OSError):
            service.ask("/v1/vas", certificates.client())
        stranger = Certificates(tmp_path / "stranger")
        context = certificates.client(stranger.issue("stranger"))
        for _ in range(40):  # some fail just when connections are looked at
            with pytest.raises(OSError):
                service.ask("/v1/vas", context)
        assert service.ask("/v1/vas")[0] == 200
        assert "Traceback" not in service.said()


def test_sighup_reads_the_certificate_anew(tmp_path: Path) -> None:
    old, new = Certificates(tmp_path / "old"), Certificates(tmp_path / "new")
    certificate, key = old.issue("served")
    with SecureService(tmp_path / "data", (certificate, key), old.client()) as service:

        def believed(authority: Certificates) -> bool:
            try:
                return service.ask("/readyz", authority.client())[0] == 200
            except ssl.SSLCertVerificationError:
                return False

        certificate.write_bytes(b"this is no certificate")
        os.kill(service.pid, signal.SIGHUP)
        until("it is said", lambda: "TLS stays as it is" in service.said())
        assert service.running(), service.said()
        assert believed(old)
        for mine, other in zip((certificate, key), new.issue("renewed"), strict=True):
            mine.write_bytes(other.read_bytes())
        os.kill(service.pid, signal.SIGHUP)
        until("the new one is shown", lambda: believed(new))
        assert not believed(old)


@pytest.mark.parametrize("what", ["absent", "mismatched", "no PEM", "passphrase", "no authorities", "alone"])
def test_files_that_cannot_be_used_end_with_2_and_one_line(
    certificates: Certificates, tmp_path: Path, what: str
) -> None:
    certificate, key = certificates.issue("one")
    _, other = certificates.issue("two")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    options = {
        "absent": ["--tls-cert", tmp_path / "absent.pem"],
        "mismatched": ["--tls-cert", certificate, "--tls-key", other],
        "no PEM": ["--tls-cert", nonsense],
        "passphrase": ["--tls-cert", certificate, "--tls-key", with_passphrase(key, tmp_path / "locked.key")],
        "no authorities": ["--tls-cert", certificate, "--tls-key", key, "--tls-client-ca", nonsense],
        "alone": ["--tls-client-ca", certificates.ca],
    }[what]
    data = tmp_path / "data"
    done = run([EVERSPACED, "serve", "--data-dir", str(data), "--port", "0", *map(str, options)])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("everspaced: ")
    assert done.stderr.count("\n") == 1
    assert not data.exists()


def with_passphrase(key: Path, file: Path) -> Path:
    """The key, encrypted."""
    from cryptography.hazmat.primitives import serialization

    private = serialization.load_pem_private_key(key.read_bytes(), None)
    file.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    return file


def test_a_wide_bind_needs_tls_or_consent(certificates: Certificates, tmp_path: Path) -> None:
    serve = [EVERSPACED, "serve", "--data-dir", str(tmp_path / "data"), "--port", "0", "--host", "0.0.0.0"]
    refused = run(serve)
    assert refused.returncode == 2
    assert "--tls-cert" in refused.stderr
    certificate, key = certificates.issue("wide")
    command = [*serve, "--tls-cert", str(certificate), "--tls-key", str(key)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        try:
            assert "https://0.0.0.0:" in process.stdout.readline()
        finally:
            process.terminate()
        assert process.wait(30) == 0


def test_the_unix_socket_stays_plain(certificates: Certificates, tmp_path: Path) -> None:
    path = tmp_path / "s"
    settings = {"EVERSPACE_UDS": str(path)}
    with SecureService(
        tmp_path / "data", certificates.issue("both"), certificates.client(), settings
    ) as service:
        assert service.ask("/readyz")[0] == 200
        with socket.socket(socket.AF_UNIX) as plain:
            plain.connect(str(path))
            plain.sendall(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert plain.recv(4096).startswith(b"HTTP/1.1 200")
