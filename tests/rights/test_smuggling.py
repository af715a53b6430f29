"""Requests whose end two readers could see in different places: refused and closed, and what follows is no request."""

import re
import socket
from collections.abc import Iterator

import pytest

from tests.conformance.support.service import Service

SECOND = b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = SECOND.replace(b"host: x", b"host: x\r\nconnection: close")
STATUS = re.compile(rb"HTTP/1\.1 (\d+) ")
HEAD = b"POST /v1/vas HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %b\r\n"
AMBIGUOUS = {
    "length and chunks": b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": b"content-length: 0\r\ncontent-length: 40\r\n\r\n",
    "two lengths in one": b"content-length: 0, 40\r\n\r\n",
    "a length with a sign": b"content-length: +0\r\n\r\n",
    "a length in hex": b"content-length: 0x10\r\n\r\n",
    "chunked twice": b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked not last": b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a blank before the colon": b"content-length : 4\r\n\r\n",
    "a folded line": b"x: a\r\n content-length: 4\r\n\r\n",
    "a line without a colon": b"content-length 4\r\n\r\n",
    "a chunk with a sign": b"transfer-encoding: chunked\r\n\r\n+1\r\n",
    "a chunk that is too long": b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("smuggling") / "data") as started:
        yield started


def heard(service: Service, sent: bytes) -> bytes:
    """All that comes back until the service closes."""
    with socket.create_connection(("127.0.0.1", service.port), 10) as client:
        client.sendall(sent)
        found = b""
        while piece := client.recv(65_536):
            found += piece
        return found


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_request_with_two_ends_is_refused_and_nothing_follows(service: Service, name: str) -> None:
    answer = heard(service, HEAD % service.root_token.encode() + AMBIGUOUS[name] + LAST)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert b'"arch"' not in answer, "what follows was read as a request"
    assert STATUS.findall(answer) == [b"400"]


def test_requests_one_behind_the_other_are_each_answered(service: Service) -> None:
    """The same without the ambiguity: what follows is a request."""
    assert STATUS.findall(heard(service, SECOND * 2 + LAST)) == [b"200"] * 3


def test_no_proxy_header_makes_anybody_somebody_else(service: Service) -> None:
    for line in (b"x-forwarded-for: 10.0.0.1", b"forwarded: for=10.0.0.1;proto=https", b"x-forwarded-proto: https",
                 b"x-original-url: /v1/vas", b"x-http-method-override: DELETE", b"x-remote-user: root"):  # fmt: skip
        answer = heard(
            service, b"GET /v1/vas HTTP/1.1\r\nhost: x\r\nconnection: close\r\n" + line + b"\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 401 "), (line, answer)
        assert b"strict-transport-security" not in answer.lower()
