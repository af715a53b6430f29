"""HTTP/1.1 without I/O: every way a response can come, in pieces of every size."""

import pytest

from everspace._http1 import COPY_BYTES_MAX, HEAD_BYTES_MAX, ResponseReader, encode_request
from everspace.errors import ConnectionLostError, ProtocolError
from everspace.transport import Request, Response


def read(wire: bytes, method: str = "GET", step: int = 1 << 20, end: bool = True) -> tuple[Response, bool]:
    """Feed it in pieces of at most `step` bytes, then, with `end`, the end of the connection."""
    reader = ResponseReader(method)
    while wire:
        place = reader.buffer()
        count = min(step, len(place), len(wire))
        place[:count] = wire[:count]
        wire = wire[count:]
        if reader.received(count):
            assert not wire, f"left over: {wire!r}"
            return reader.response(), reader.keep_alive
    assert end
    assert reader.received(0)
    return reader.response(), reader.keep_alive


SIZED = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n\r\nhello world"
CHUNKED = (
    b"HTTP/1.1 206 Partial Content\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n6;name=value\r\n world\r\n0\r\nTrailer: yes\r\n\r\n"
)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("wire", [SIZED, CHUNKED, b"HTTP/1.1 100 Continue\r\n\r\n" + SIZED])
def test_pieces_of_any_size_give_the_same_response(wire: bytes, step: int) -> None:
    response, keep_alive = read(wire, step=step)
    assert response.body == b"hello world"
    assert keep_alive


def test_a_body_until_the_end_of_the_connection() -> None:
    response, keep_alive = read(b"HTTP/1.1 200 OK\r\n\r\nhello world", step=4)
    assert (response.body, keep_alive) == (b"hello world", False)
    assert read(b"HTTP/1.1 200 OK\r\n\r\n")[0].body == b""


@pytest.mark.parametrize(
    ("wire", "method"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", "DELETE"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", "GET"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "HEAD"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "PUT"),
    ],
)
def test_responses_without_a_body(wire: bytes, method: str) -> None:
    response, keep_alive = read(wire, method, end=False)
    assert (response.body, keep_alive) == (b"", True)


def test_a_large_body_is_received_in_its_final_place() -> None:
    body = bytes(range(256)) * 4096
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    response, keep_alive = read(head + body, step=100_000)
    assert (response.body == body, type(response.body), keep_alive) == (True, bytes, True)


@pytest.mark.parametrize("step", [1, 50, 4096])
def test_a_body_that_fits_goes_into_the_callers_buffer(step: int) -> None:
    buffer = bytearray(11)
    reader = ResponseReader("GET", memoryview(buffer))
    wire = SIZED
    done = False
    while not done:
        place = reader.buffer()
        count = min(step, len(place), len(wire))
        place[:count] = wire[:count]
        wire = wire[count:]
        done = reader.received(count)
    assert (bytes(buffer), reader.response().filled, reader.response().body) == (b"hello world", 11, b"")


def test_an_error_does_not_go_into_the_callers_buffer() -> None:
    buffer = bytearray(3)
    reader = ResponseReader("GET", memoryview(buffer))
    wire = b"HTTP/1.1 422 No\r\nContent-Length: 3\r\n\r\nbad"
    reader.buffer()[: len(wire)] = wire
    assert reader.received(len(wire))
    assert (reader.response().body, bytes(buffer)) == (b"bad", bytes(3))


def test_headers_are_lower_case_and_repeated_ones_joined() -> None:
    response, keep_alive = read(
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a:2\t\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n"
    )
    assert response.headers["x-a"] == "1, 2"
    assert not keep_alive
    assert not read(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")[1]


def test_unasked_bytes_after_a_response_end_the_connection() -> None:
    reader = ResponseReader("GET")
    wire = SIZED + b"HTTP/1.1 200 OK\r\n"
    reader.buffer()[: len(wire)] = wire
    assert reader.received(len(wire))
    assert (reader.response().body, reader.keep_alive) == (b"hello world", False)


@pytest.mark.parametrize(
    "wire",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 20\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: 1\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * HEAD_BYTES_MAX,
    ],
)
def test_what_is_not_http_is_refused(wire: bytes) -> None:
    with pytest.raises(ProtocolError):
        read(wire)


@pytest.mark.parametrize("cut", [0, 5, 40, len(SIZED) - 1])
def test_an_answer_cut_short_is_a_lost_connection(cut: int) -> None:
    with pytest.raises(ConnectionLostError):
        read(SIZED[:cut])
    with pytest.raises(ConnectionLostError):
        read(CHUNKED[: cut + 1])


def test_requests_name_their_lengths_and_large_bodies_are_not_copied() -> None:
    (head,) = encode_request(Request("GET", "/v1/vas?name=a", (("X", "y"),)), "h:1")
    assert head == b"GET /v1/vas?name=a HTTP/1.1\r\nHost: h:1\r\nX: y\r\n\r\n"
    (head,) = encode_request(Request("POST", "/x"), "h")
    assert b"Content-Length: 0\r\n" in bytes(head)
    (head,) = encode_request(Request("PUT", "/x", body=b"abc"), "h")
    assert bytes(head).endswith(b"Content-Length: 3\r\n\r\nabc")
    big = memoryview(bytes(COPY_BYTES_MAX + 1))
    head, body = encode_request(Request("PUT", "/x", body=big), "h")
    assert body is big
