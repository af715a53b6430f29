"""https:// with certificates of one's own: who is trusted, who we are, and what is refused."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

import everspace
from everspace import errors

VERSION = b'{"version": "1", "instance": "i", "arch": "x86_64", "page_size": 4096, "items": [], "next": null}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(VERSION)
Opener = Callable[..., Any]


class Authority:
    """A certificate authority of the test, and the files that a client is told."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.root = trustme.CA()
        self.ca = directory / "ca.pem"
        self.root.cert_pem.write_to_path(self.ca)
        issued = self.root.issue_cert("client@example.org")
        self.pair, self.chain, self.key = (directory / name for name in ("pair.pem", "chain.pem", "key.pem"))
        issued.private_key_and_cert_chain_pem.write_to_path(self.pair)
        issued.cert_chain_pems[0].write_to_path(self.chain)
        issued.private_key_pem.write_to_path(self.key)

    def serve(self, playhouse: Opener, *, clients: bool = False, name: str = "127.0.0.1") -> str:
        """The URL of a server with a certificate of this authority; `clients`: it asks them for theirs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.root.issue_cert(name).configure_cert(context)
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca)

        def script(sock: socket.socket, _: int) -> None:
            try:
                with context.wrap_socket(sock, server_side=True) as secure:
                    while secure.recv(65536):
                        secure.sendall(ANSWER + VERSION)
            except OSError:
                return  # the client does not trust us, or we do not trust it

        url: str = playhouse(script).url.replace("http:", "https:")
        return url


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


def ask(url: str, **options: Any) -> str:
    """Sync and async, twice each on one connection."""

    async def twice() -> str:
        async with everspace.aconnect(url, **options) as client:
            await client.version()
            return (await client.version()).arch

    with everspace.connect(url, **options) as client:
        first = client.version().arch
        assert client.version().arch == first == asyncio.run(twice())
    return first


def refused(url: str, **options: Any) -> str:
    """The message, the same for both."""

    async def once() -> None:
        async with everspace.aconnect(url, **options) as client:
            await client.version()

    with everspace.connect(url, **options) as client, pytest.raises(errors.CannotConnectError) as caught:
        client.version()
    with pytest.raises(errors.CannotConnectError):
        asyncio.run(once())
    return str(caught.value)


def test_an_authority_of_ones_own_is_trusted(authority: Authority, playhouse: Opener) -> None:
    url = authority.serve(playhouse)
    assert ask(url, ca=authority.ca) == "x86_64"
    assert ask(url, ca=str(authority.ca)) == "x86_64"


def test_the_environment_tells_it_too(
    authority: Authority, playhouse: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERSPACE_CA", str(authority.ca))
    assert ask(authority.serve(playhouse)) == "x86_64"
    asking = authority.serve(playhouse, clients=True)
    monkeypatch.setenv("EVERSPACE_CERT", str(authority.pair))
    assert ask(asking) == "x86_64"
    monkeypatch.setenv("EVERSPACE_CERT", str(authority.chain))
    monkeypatch.setenv("EVERSPACE_KEY", str(authority.key))
    assert ask(asking) == "x86_64"
    assert everspace.connect("http://127.0.0.1:1") is not None, "who does not speak TLS needs no certificates"


def test_others_are_not(authority: Authority, playhouse: Opener, tmp_path: Path) -> None:
    assert "certificate" in refused(authority.serve(playhouse))
    assert "certificate" in refused(authority.serve(playhouse), ca=Authority(tmp_path / "theirs").ca)
    assert "127.0.0.1" in refused(authority.serve(playhouse, name="example.org"), ca=authority.ca)


def test_a_service_that_asks_who_we_are_is_told(
    authority: Authority, playhouse: Opener, tmp_path: Path
) -> None:
    url = authority.serve(playhouse, clients=True)
    assert ask(url, ca=authority.ca, cert=authority.pair) == "x86_64"
    assert ask(url, ca=authority.ca, cert=(authority.chain, authority.key)) == "x86_64"


def test_without_a_certificate_it_refuses_the_connection(
    authority: Authority, playhouse: Opener, tmp_path: Path
) -> None:
    """The hand-shake ends after we have begun to send: nothing was looked at, so nothing was done."""
    url = authority.serve(playhouse, clients=True)
    for cert in (None, Authority(tmp_path / "theirs").pair):
        with everspace.connect(url, ca=authority.ca, cert=cert) as client:
            with pytest.raises(errors.TransportError) as caught:
                client.version()
            assert isinstance(caught.value, errors.CannotConnectError | errors.ConnectionLostError)


@pytest.mark.parametrize("option", ["ca", "cert"])
@pytest.mark.parametrize("content", [None, b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nx\n"])
def test_files_that_cannot_be_used_are_value_errors(
    authority: Authority, tmp_path: Path, option: str, content: bytes | None
) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=r"file\.pem"):
        everspace.connect("https://127.0.0.1:1", **{option: file})  # type: ignore[arg-type]


def test_certificates_without_https_are_value_errors(authority: Authority) -> None:
    for ca, cert in ((authority.ca, None), (None, authority.pair)):
        with pytest.raises(ValueError, match="not https"):
            everspace.connect("http://127.0.0.1:1", ca=ca, cert=cert)


def test_the_command_line_takes_them(
    authority: Authority, playhouse: Opener, capfd: pytest.CaptureFixture[str]
) -> None:
    from everspace.cli.app import run

    url = authority.serve(playhouse, clients=True)
    told = [
        "--url",
        url,
        "--ca",
        str(authority.ca),
        "--cert",
        str(authority.chain),
        "--key",
        str(authority.key),
    ]
    assert run([*told, "vas", "ls"]) == 0
    assert run(["--url", url, "vas", "ls"]) == 3
    assert run(["--key", "k", "vas", "ls"]) == 2
    assert "Traceback" not in capfd.readouterr().err
