"""What holds for every request: tokens, routes, methods, problem documents, bodies."""

import contextlib
import http.client
import json
import socket
from typing import Any
from urllib.parse import urljoin

import pytest

import everspace
from tests.conformance.support.calls import PAGE
from tests.conformance.support.http import Problem, checked_problem
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

BODY_MAX = 64 * 1024 * 1024
WRONG: tuple[Any, ...] = (True, [], {}, 1.5, "", "zz", "0x")


def problem(world: World, account: str, method: str, path: str, **named: Any) -> dict[str, Any]:
    """The problem document of a request that is refused and changes nothing."""
    before = world.state()
    answer = world.http(account).request(method, path, **named)
    assert answer.status >= 400, answer
    assert world.state() == before
    return checked_problem(answer)


@row("HTTP-401-1", "http")
def test_without_a_known_token_nothing_is_had(world: World) -> None:
    vid = world.space(0o666)
    good = world.site.tokens["owner"]
    headers: list[dict[str, str]] = [
        {}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": "Bearer "},
        {"Authorization": good}, {"Authorization": f"Basic {good}"}, {"Authorization": f"Bearer {good}x"},
        {"Authorization": f"Bearer {good[:-1]}"}, {"Authorization": "Bearer nobody"}, {"Authorization": "Bearer \xff"},
        {"Authorization": f"Bearer {'x' * 4000}"},
    ]  # fmt: skip
    nobody = world.stranger(None)
    for header in headers:
        for method, path in (("GET", "/v1/vas"), ("DELETE", f"/v1/vas/{vid}"), ("POST", "/v1/tasks")):
            before = world.state()
            answer = nobody.request(method, path, headers=header)
            document = checked_problem(answer)
            assert document["status"] == 401
            assert "errno" not in document
            assert "www-authenticate" in answer.headers
            assert world.state() == before
    nobody.close()


@row("HTTP-401-2", "sdk")
def test_the_sdk_says_that_the_token_is_unknown(world: World) -> None:
    service = world.site.service
    with pytest.raises(everspace.VasError) as raised, everspace.connect(service.url, "unknown") as client:
        client.spawn()
    assert getattr(raised.value, "status", None) == 401


@row("HTTP-OPEN-1", "http")
def test_health_and_version_need_no_token(world: World) -> None:
    nobody = world.stranger(None)
    for path in ("/healthz", "/readyz", "/version"):
        nobody.call("GET", path, status=200)
    assert nobody.get("/version")["version"]
    for path in ("/v1/healthz", "/v1/version"):
        assert checked_problem(world.http("owner").request("GET", path))["status"] == 404
    nobody.close()


@row("HTTP-DOCS-1", "http")
def test_the_documentation_loads_nothing_from_elsewhere(world: World) -> None:
    nobody = world.stranger(None)
    page = nobody.request("GET", "/docs")
    assert page.status == 200
    text = page.body.decode("utf-8")
    assert "//cdn" not in text
    assert "https://" not in text
    for part in text.replace("'", '"').split('"'):
        if part.endswith((".js", ".css")):
            assert nobody.request("GET", urljoin("/docs", part)).status == 200, part
    assert json.loads(nobody.request("GET", "/openapi.json").body)["openapi"].startswith("3.")
    nobody.close()


@row("HTTP-OPERATIONS-1", "http")
def test_operations_have_the_names_of_the_calls(world: World) -> None:
    paths = json.loads(world.http("owner").request("GET", "/openapi.json").body)["paths"]
    operations = {
        f"{method.upper()} {path}": operation["operationId"]
        for path, methods in paths.items()
        for method, operation in methods.items()
        if "operationId" in operation
    }
    assert len(set(operations.values())) == len(operations)
    for wanted, name in {
        "POST /v1/vas": "vas_create", "GET /v1/vas": "vas_find", "GET /v1/vas/{vid}": "vas_getattr",
        "PATCH /v1/vas/{vid}": "vas_setattr", "DELETE /v1/vas/{vid}": "vas_delete",
        "POST /v1/segments": "vas_seg_create", "GET /v1/segments": "vas_seg_find",
        "GET /v1/segments/{sid}": "vas_seg_getattr", "PATCH /v1/segments/{sid}": "vas_seg_setattr",
        "DELETE /v1/segments/{sid}": "vas_seg_delete", "PUT /v1/vas/{vid}/segments/{sid}": "vas_seg_attach",
        "DELETE /v1/vas/{vid}/segments/{sid}": "vas_seg_detach", "PUT /v1/tasks/{pid}/vas/{vid}": "vas_attach",
        "DELETE /v1/tasks/{pid}/vas/{vid}": "vas_detach",
        "PUT /v1/tasks/{pid}/threads/{tid}/active": "vas_switch",
        "GET /v1/tasks/{pid}/threads/{tid}/active": "active_vas",
    }.items():  # fmt: skip
        assert operations.get(wanted) == name, wanted


@row("HTTP-404-1", "http")
def test_an_unknown_route_is_a_problem_without_errno(world: World) -> None:
    for path in (
        "/",
        "/v1",
        "/v1/",
        "/v1/none",
        "/vas",
        f"/v1/tasks/{world.owner.pid}/none",
        "/v2/vas",
        "/v1/vas//",
    ):
        document = problem(world, "owner", "GET", path)
        assert document["status"] == 404, path
        assert "errno" not in document


@row("HTTP-405-1", "http")
def test_an_unknown_method_is_a_problem_without_errno(world: World) -> None:
    vid = world.space()
    for method, path in (
        ("PUT", "/v1/vas"), ("POST", f"/v1/vas/{vid}"), ("DELETE", "/v1/vas"), ("PATCH", "/v1/tasks"),
        ("POST", f"/v1/vas/{vid}/regions"), ("PUT", f"/v1/tasks/{world.owner.pid}/batch"), ("PROPFIND", "/v1/vas"),
        ("POST", f"/v1/tasks/{world.owner.pid}/memory"), ("DELETE", "/readyz"),
    ):  # fmt: skip
        document = problem(world, "owner", method, path)
        assert document["status"] == 405, (method, path)
        assert "errno" not in document


@row("HTTP-JSON-1", "http")
def test_broken_json_is_einval(world: World) -> None:
    bodies = (
        b"", b"{", b"{}}", b'{"name": }', b"nonsense", b"\xff\xfe", b'{"name": "a", "mode": 0600}', b"null", b"[]", b'"x"',
        b"5", b"true", b'{"name": "\xff", "mode": 0}', b"[" * 100_000, b'{"a":' * 50_000,
        b'{"name": "a", "mode": ' + b"9" * 10_000 + b"}", b'{"name": "a", "mode": NaN}',
        b'{"name": "a", "mode": 1e400}', b"{'name': 'a', 'mode': 0}", b'{"name": "a", "mode": 0,}',
    )  # fmt: skip
    for raw in bodies:
        for path in ("/v1/vas", f"/v1/tasks/{world.owner.pid}/brk", f"/v1/tasks/{world.owner.pid}/batch"):
            if raw == b"" and path.endswith("brk"):
                continue
            document = problem(
                world, "owner", "POST", path, raw=raw, headers={"Content-Type": "application/json"}
            )
            assert document["errno"] == "EINVAL", (path, raw[:40])


@row("HTTP-MEMBERS-1", "http")
def test_unknown_members_are_einval(world: World) -> None:
    vid, sid = world.space(), world.segment()
    pid = world.owner.pid
    place = {"start": hex(BASE), "end": hex(BASE + PAGE)}
    for method, path, body in (
        ("POST", "/vas", {"name": world.name(), "mode": 0}), ("PATCH", f"/vas/{vid}", {"mode": 0}),
        ("POST", "/segments", {"name": world.name(), "mode": 0, **place}), ("PATCH", f"/segments/{sid}", {"mode": 0}),
        ("PUT", f"/vas/{vid}/segments/{sid}", {"type": "rw"}), ("POST", "/tasks", {}),
        ("PUT", f"/tasks/{pid}/vas/{vid}", {"type": "rw"}), ("POST", f"/tasks/{pid}/fork", {}),
        ("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": 0}), ("POST", f"/tasks/{pid}/threads", {}),
        ("POST", f"/tasks/{pid}/mmap", {"addr": 0, "length": PAGE, "prot": 3, "flags": 34}),
        ("POST", f"/tasks/{pid}/munmap", {"addr": BASE, "length": PAGE}), ("POST", f"/tasks/{pid}/msync", {}),
        ("POST", f"/tasks/{pid}/mprotect", {"addr": BASE, "length": PAGE, "prot": 1}),
        ("POST", f"/tasks/{pid}/brk", {"addr": 0}),
    ):  # fmt: skip
        document = problem(world, "owner", method, f"/v1{path}", body={**body, "surplus": 1})
        assert document["errno"] == "EINVAL", path
        assert "surplus" in document["detail"]


@row("HTTP-TYPES-1", "http")
def test_members_of_a_wrong_type_are_einval(world: World) -> None:
    vid, pid = world.space(), world.owner.pid
    good: dict[str, dict[str, Any]] = {
        "POST /vas": {"name": "never made", "mode": 0, "sharing": "shared"},
        "PATCH /vas/{vid}": {"mode": 0, "uid": 1001, "gid": 500},
        "POST /segments": {"name": "never made", "start": hex(BASE), "end": hex(BASE + PAGE), "mode": 0},
        "PUT /tasks/{pid}/threads/{pid}/active": {"vid": 0},
        "POST /tasks/{pid}/mmap": {"addr": 0, "length": PAGE, "prot": 3, "flags": 34},
        "POST /tasks/{pid}/munmap": {"addr": 0, "length": PAGE},
        "POST /tasks/{pid}/mprotect": {"addr": 0, "length": PAGE, "prot": 3},
        "POST /tasks/{pid}/brk": {"addr": 0},
        "POST /tasks": {"lease_s": 60},
    }
    for route, members in good.items():
        method, path = route.replace("{vid}", str(vid)).replace("{pid}", str(pid)).split()
        for member in members:
            for bad in WRONG:
                if (member, bad) in (("name", "zz"), ("name", "0x"), ("lease_s", 1.5)):
                    continue
                document = problem(world, "owner", method, f"/v1{path}", body={**members, member: bad})
                assert document["errno"] == "EINVAL", (route, member, bad)
    for missing in ("name", "mode"):
        body = {key: value for key, value in good["POST /vas"].items() if key != missing}
        assert problem(world, "owner", "POST", "/v1/vas", body=body)["errno"] == "EINVAL"
        assert problem(world, "owner", "POST", "/v1/vas", body=body | {missing: None})["errno"] == "EINVAL"


@row("HTTP-QUERY-1", "http")
def test_bad_queries_are_einval(world: World) -> None:
    path = f"/v1/tasks/{world.owner.pid}/memory"
    queries = (
        "", "addr=0x10000", "len=1", "addr=&len=1", "addr=x&len=1", "addr=0x&len=1", "addr=0x1_0&len=1", "addr=1.5&len=1",
        "addr=0x10000&len=x", "addr=0x10000&len=-1", "addr=0x10000&len=", "addr=0x10000&len=1&tid=x",
        "addr=%20&len=1", "addr=0x10000&len=1&addr=2",
    )  # fmt: skip
    for query in queries:
        assert problem(world, "owner", "GET", f"{path}?{query}").get("errno") == "EINVAL", query
    for query in ("", "addr=x", f"addr={BASE}&durability=maybe", f"addr={BASE}&tid=x"):
        assert problem(world, "owner", "PUT", f"{path}?{query}", raw=b"x")["errno"] == "EINVAL", query
    for query in (f"addr={BASE}&len=1&tid=2000000000", f"addr={BASE}&len=0&tid=2000000000"):
        assert problem(world, "owner", "GET", f"{path}?{query}")["errno"] == "ESRCH"


@row("HTTP-ADDRESS-1", "http")
def test_addresses_are_hex_or_decimal(world: World) -> None:
    world.inside()
    http = world.http("owner")
    path = f"/v1/tasks/{world.owner.pid}/memory"
    for spelled in (hex(BASE), str(BASE), f"0x{BASE:X}"):
        http.call("PUT", f"{path}?addr={spelled}", raw=spelled.encode())
        assert http.call("GET", f"{path}?addr={spelled}&len={len(spelled)}").body == spelled.encode()
    for start in (BASE, hex(BASE)):
        body = {"name": world.name(), "start": start, "end": BASE + PAGE, "mode": 0}
        assert http.call("POST", "/v1/segments", body, status=201).json["start"] == hex(BASE)


@row("HTTP-E2BIG-1", "http")
def test_a_body_over_the_limit_is_e2big(world: World) -> None:
    """The length alone is enough: the service does not wait for the bytes."""
    world.inside()
    token = world.site.tokens["owner"]
    for method, path in (
        ("PUT", f"/v1/tasks/{world.owner.pid}/memory?addr={BASE:#x}"), ("POST", "/v1/vas"),
        ("POST", f"/v1/tasks/{world.owner.pid}/batch"),
    ):  # fmt: skip
        before = world.state()
        connection = http.client.HTTPConnection("127.0.0.1", world.site.service.port, timeout=30)
        connection.putrequest(method, path)
        connection.putheader("Authorization", f"Bearer {token}")
        connection.putheader("Content-Length", str(2**40))
        connection.endheaders()
        answer = connection.getresponse()
        document = json.loads(answer.read())
        connection.close()
        assert (answer.status, document["errno"]) == (413, "E2BIG")
        assert world.state() == before


@row("HTTP-E2BIG-2", "http")
def test_a_body_without_a_length_is_counted(world: World) -> None:
    world.inside()
    path = f"/v1/tasks/{world.owner.pid}/memory?addr={BASE:#x}"
    before = world.state()

    def endless() -> Any:
        for _ in range(BODY_MAX // 2**20 + 2):
            yield b"x" * 2**20

    connection = http.client.HTTPConnection("127.0.0.1", world.site.service.port, timeout=60)
    headers = {"Authorization": f"Bearer {world.site.tokens['owner']}", "Transfer-Encoding": "chunked"}
    with contextlib.suppress(ConnectionError):  # it may answer before the end and close
        connection.request("PUT", path, body=endless(), headers=headers, encode_chunked=True)
    with contextlib.suppress(ConnectionError):
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["errno"]) == (413, "E2BIG")
    connection.close()
    assert world.owner.read(BASE, 4) == bytes(4)
    assert world.state() == before


@row("HTTP-E2BIG-3", "http")
def test_a_load_over_the_limit_is_e2big(world: World) -> None:
    world.inside()
    for length in (2**40, 2**63, 2**70):
        document = problem(
            world, "owner", "GET", f"/v1/tasks/{world.owner.pid}/memory?addr={BASE:#x}&len={length}"
        )
        assert document["errno"] in ("E2BIG", "EFAULT")


@row("HTTP-BROKEN-1", "http")
def test_bytes_that_are_no_http_hurt_nobody(world: World) -> None:
    before = world.state()
    for raw in (
        b"\r\n\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), b"GET / HTTP/9.9\r\n\r\n",
        b"GET /v1/vas HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", b"A" * 100_000,
        b"POST /v1/vas HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ):  # fmt: skip
        with socket.create_connection(("127.0.0.1", world.site.service.port), timeout=10) as raw_socket:
            try:
                raw_socket.sendall(raw)
                raw_socket.shutdown(socket.SHUT_WR)
                answer = raw_socket.recv(65536)
            except ConnectionError:
                continue
            assert b" 500 " not in answer.split(b"\r\n")[0]
    assert world.state() == before


@row("HTTP-INSTANCE-1", "http")
def test_a_task_of_another_start_of_the_service_is_esrch(world: World) -> None:
    """Every answer names the start; a request that names another does nothing to whoever has the pid now."""
    http = world.http("owner")
    path = f"/v1/tasks/{world.owner.pid}"
    instance = http.call("GET", path).headers["everspace-instance"]
    assert http.request("GET", "/v1/none").headers["everspace-instance"] == instance
    assert http.get("/version")["instance"] == instance
    http.call("GET", path, headers={"Everspace-Instance": instance})
    stale = {"Everspace-Instance": "another"}
    world.fails("ESRCH", http.call, "DELETE", path, headers=stale)
    world.fails("ESRCH", http.call, "POST", f"{path}/brk", {"addr": 0}, headers=stale)
    world.fails("ESRCH", http.call, "GET", f"/v1/proc/{world.owner.pid}/maps", headers=stale)


@row("HTTP-ERRNO-1")
def test_errno_status_and_class_belong_together(world: World) -> None:
    """One refusal of each kind that this service gives; the form of every document is checked on the way."""
    vid, sid = world.inside()
    second = world.task("owner")
    cases: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("EINVAL", second.vas_getattr, (0,)), ("ESRCH", second.vas_find, (world.name(),)),
        ("EACCES", world.other.vas_delete, (vid,)), ("EPERM", world.other.vas_setattr, (vid, 0o600)),
        ("EEXIST", second.vas_create, (world.owner.vas_getattr(vid).name, 0)), ("EBUSY", second.vas_delete, (vid,)),
        ("EFAULT", second.read, (BASE, 1)), ("ENOMEM", second.mmap, (0, 2**62, 3, 34)),
        ("EBUSY", second.vas_seg_delete, (sid,)),
    ]  # fmt: skip
    for errno, call, args in cases:
        failure = world.fails(errno, call, *args)
        assert failure.problem.get("errno", errno) == errno
    if world.way == "http":
        with pytest.raises(Problem):
            world.http("owner").get("/v1/vas/0")
