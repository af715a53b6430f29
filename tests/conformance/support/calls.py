"""The calls as the contract names them (`Calls`), and the same over raw HTTP (`HttpTask`, `HttpThread`).

The SDK's Task and Thread have these methods by themselves, so a test is written once and goes both ways.
"""

import base64
from dataclasses import dataclass
from typing import Any, Protocol, Self
from urllib.parse import quote

from tests.conformance.support.http import Answer, Http, Problem
from tests.conformance.support.personalities import HttpPersonalities, Personalities

TYPES = {0: "ro", 1: "wo", 2: "rw"}
PAGE = 4096


class SpaceAttr(Protocol):
    """What vas_getattr tells."""

    @property
    def name(self) -> str: ...
    @property
    def mode(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def sharing(self) -> str: ...
    @property
    def attach_count(self) -> int: ...
    @property
    def origin(self) -> int: ...
    @property
    def snapshot(self) -> bool: ...
    @property
    def lifetime(self) -> str: ...


class SegmentAttr(SpaceAttr, Protocol):
    """What vas_seg_getattr tells."""

    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def size(self) -> int: ...


class Calls(Personalities, Protocol):
    """Every call of a thread; a task is its own main thread."""

    @property
    def pid(self) -> int: ...
    @property
    def tid(self) -> int: ...
    def vas_create(
        self, name: str, mode: int, sharing: str = "exclusive", lifetime: str = "persistent"
    ) -> int: ...
    def vas_delete(self, vid: int) -> int: ...
    def vas_find(self, name: str) -> int: ...
    def vas_attach(self, pid: int, vid: int, type: int, lazy: bool = True) -> int: ...
    def vas_detach(self, pid: int, vid: int) -> int: ...
    def vas_switch(self, vid: int, timeout: float | None = None) -> int: ...
    def active_vas(self) -> int: ...
    def vas_getattr(self, vid: int) -> SpaceAttr: ...
    def vas_setattr(
        self,
        vid: int,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        sharing: str | None = None,
        name: str | None = None,
        lifetime: str | None = None,
    ) -> int: ...
    def vas_seg_create(
        self,
        name: str,
        start: int,
        end: int,
        mode: int,
        sharing: str = "exclusive",
        lifetime: str = "persistent",
    ) -> int: ...
    def vas_seg_delete(self, sid: int) -> int: ...
    def vas_seg_find(self, name: str) -> int: ...
    def vas_seg_attach(self, vid: int, sid: int, type: int) -> int: ...
    def vas_seg_detach(self, vid: int, sid: int) -> int: ...
    def vas_seg_getattr(self, sid: int) -> SegmentAttr: ...
    def vas_seg_setattr(
        self,
        sid: int,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        sharing: str | None = None,
        name: str | None = None,
        lifetime: str | None = None,
    ) -> int: ...
    def read(self, addr: int, length: int) -> bytes: ...
    def write(self, addr: int, data: bytes, durability: str = "commit") -> int: ...
    def mmap(self, addr: int, length: int, prot: int, flags: int) -> int: ...
    def munmap(self, addr: int, length: int) -> int: ...
    def mprotect(self, addr: int, length: int, prot: int) -> int: ...
    def mremap(
        self, old_addr: int, old_size: int, new_size: int, flags: int = 0, new_addr: int = 0
    ) -> int: ...
    def brk(self, addr: int = 0) -> int: ...
    def madvise(self, addr: int, length: int, advice: int) -> int: ...
    def mincore(self, addr: int, length: int) -> bytes: ...
    def mlock(self, addr: int, length: int, flags: int = 0) -> int: ...
    def munlock(self, addr: int, length: int) -> int: ...
    def msync(self, addr: int = 0, length: int = 0, flags: int = 4) -> int: ...
    def prlimit(self, resource: str, value: int | None = None) -> int: ...
    def maps(self) -> str: ...


class ThreadCalls(Calls, Protocol):
    """A thread; exit() ends it alone."""

    def exit(self) -> int: ...


class TaskCalls(Calls, Protocol):
    """A task: it can also make threads and tasks, and end."""

    def thread(self) -> ThreadCalls: ...
    def fork(self) -> "TaskCalls": ...
    def exec(self) -> int: ...
    def exit(self) -> int: ...


@dataclass(frozen=True)
class Attr:
    """Attributes as the JSON of a space or segment has them."""

    name: str
    mode: int
    uid: int
    gid: int
    sharing: str
    attach_count: int
    origin: int = 0
    snapshot: bool = False
    lifetime: str = "persistent"
    image: bool = False
    start: int = 0
    end: int = 0
    size: int = 0


def attr_of(item: dict[str, Any]) -> Attr:
    """Attributes out of JSON, where addresses are hex strings."""
    common = {key: item[key] for key in ("name", "mode", "uid", "gid", "sharing", "attach_count")}
    common |= {key: item[key] for key in ("origin", "snapshot", "lifetime", "image") if key in item}
    place = {key: int(item[key], 16) for key in ("start", "end") if key in item}
    for key, address in place.items():
        assert item[key] == hex(address), item
    return Attr(**common, start=place.get("start", 0), end=place.get("end", 0), size=item.get("size", 0))


def given(**members: Any) -> dict[str, Any]:
    return {key: value for key, value in members.items() if value is not None}


def unusual(lifetime: str) -> dict[str, str]:
    """A lifetime as a member, unless it is what everything has when nobody says otherwise."""
    return {} if lifetime == "persistent" else {"lifetime": lifetime}


def wire_type(type: int) -> int | str:
    """The name of an attach type; what has no name goes as it is, for the service to refuse."""
    return TYPES.get(type, type)


class HttpThread(HttpPersonalities):
    """A thread of a task, spoken to over raw HTTP."""

    def __init__(self, http: Http, pid: int, tid: int) -> None:
        self.http = http
        self.pid = pid
        self.tid = tid

    def _tid(self) -> dict[str, int]:
        return {} if self.tid == self.pid else {"tid": self.tid}

    def _tid_query(self) -> str:
        return "" if self.tid == self.pid else f"&tid={self.tid}"

    def batch(self, *calls: dict[str, Any], atomic: bool = False) -> list[dict[str, Any]]:
        """The results of a batch; `calls` are {"call": …, "args": …}."""
        query = f"?atomic={'true' if atomic else 'false'}{self._tid_query()}"
        body = {"calls": list(calls)}
        answer = self.http.call("POST", f"/v1/tasks/{self.pid}/batch{query}", body, status=200)
        results = answer.json["results"]
        assert len(results) == len(calls)
        assert all(("value" in result) != ("errno" in result) for result in results), results
        return list(results)

    def one(self, call: str, **args: Any) -> Any:
        """The value of one call sent as a batch; its error as the Problem it is."""
        result = self.batch({"call": call, "args": args})[0]
        if "errno" in result:
            document = {"status": 0, "title": "", **result}
            problem = Problem.__new__(Problem)
            Exception.__init__(problem, document)
            problem.answer, problem.document = Answer(0, {}, b""), document
            problem.errno = result["errno"]
            assert result["detail"], result
            raise problem
        return result["value"]

    def vas_create(
        self, name: str, mode: int, sharing: str = "exclusive", lifetime: str = "persistent"
    ) -> int:
        body = {"name": name, "mode": mode, "sharing": sharing} | unusual(lifetime)
        return int(self.http.call("POST", "/v1/vas", body, status=201).json["id"])

    def vas_delete(self, vid: int) -> int:
        self.http.call("DELETE", f"/v1/vas/{vid}")
        return 0

    def vas_find(self, name: str) -> int:
        listed = self.http.get(f"/v1/vas?name={quote(name, safe='', errors='surrogatepass')}")["items"]
        found = int(self.one("vas_find", name=name)) if not listed else int(listed[0]["id"])
        assert len(listed) <= 1
        return found

    def vas_attach(self, pid: int, vid: int, type: int, lazy: bool = True) -> int:
        body = {"type": wire_type(type)} | ({} if lazy else {"lazy": False})
        self.http.call("PUT", f"/v1/tasks/{pid or self.pid}/vas/{vid}", body)
        return 0

    def vas_detach(self, pid: int, vid: int) -> int:
        self.http.call("DELETE", f"/v1/tasks/{pid or self.pid}/vas/{vid}")
        return 0

    def vas_switch(self, vid: int, timeout: float | None = None) -> int:
        body = given(vid=vid, timeout_s=timeout)
        self.http.call("PUT", f"/v1/tasks/{self.pid}/threads/{self.tid}/active", body)
        return 0

    def active_vas(self) -> int:
        return int(self.http.get(f"/v1/tasks/{self.pid}/threads/{self.tid}/active")["vid"])

    def vas_getattr(self, vid: int) -> Attr:
        item = self.http.get(f"/v1/vas/{vid}")
        assert item["id"] == vid
        return attr_of(item)

    def vas_setattr(
        self,
        vid: int,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        sharing: str | None = None,
        name: str | None = None,
        lifetime: str | None = None,
    ) -> int:
        body = given(mode=mode, uid=uid, gid=gid, sharing=sharing, name=name, lifetime=lifetime)
        self.http.call("PATCH", f"/v1/vas/{vid}", body)
        return 0

    def vas_seg_create(
        self,
        name: str,
        start: int,
        end: int,
        mode: int,
        sharing: str = "exclusive",
        lifetime: str = "persistent",
    ) -> int:
        place = {"start": hex(start), "end": hex(end)}
        body = {"name": name, "mode": mode, "sharing": sharing, **place} | unusual(lifetime)
        return int(self.http.call("POST", "/v1/segments", body, status=201).json["id"])

    def vas_seg_delete(self, sid: int) -> int:
        self.http.call("DELETE", f"/v1/segments/{sid}")
        return 0

    def vas_seg_find(self, name: str) -> int:
        listed = self.http.get(f"/v1/segments?name={quote(name, safe='', errors='surrogatepass')}")["items"]
        found = int(self.one("vas_seg_find", name=name)) if not listed else int(listed[0]["id"])
        assert len(listed) <= 1
        return found

    def vas_seg_attach(self, vid: int, sid: int, type: int) -> int:
        self.http.call("PUT", f"/v1/vas/{vid}/segments/{sid}", {"type": wire_type(type)})
        return 0

    def vas_seg_detach(self, vid: int, sid: int) -> int:
        self.http.call("DELETE", f"/v1/vas/{vid}/segments/{sid}")
        return 0

    def vas_seg_getattr(self, sid: int) -> Attr:
        item = self.http.get(f"/v1/segments/{sid}")
        assert item["id"] == sid
        return attr_of(item)

    def vas_seg_setattr(
        self,
        sid: int,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        sharing: str | None = None,
        name: str | None = None,
        lifetime: str | None = None,
    ) -> int:
        body = given(mode=mode, uid=uid, gid=gid, sharing=sharing, name=name, lifetime=lifetime)
        self.http.call("PATCH", f"/v1/segments/{sid}", body)
        return 0

    def read(self, addr: int, length: int) -> bytes:
        query = f"addr={addr:#x}&len={length}{self._tid_query()}"
        answer = self.http.call("GET", f"/v1/tasks/{self.pid}/memory?{query}", status=200)
        assert answer.headers["content-type"] == "application/octet-stream"
        return answer.body

    def write(self, addr: int, data: bytes, durability: str = "commit") -> int:
        query = f"addr={addr:#x}{self._tid_query()}"
        if durability != "commit":
            query += f"&durability={durability}"
        self.http.call("PUT", f"/v1/tasks/{self.pid}/memory?{query}", raw=data)
        return len(data)

    def _memory(self, call: str, **args: int) -> Answer:
        body: dict[str, Any] = dict(args) | self._tid()
        for name in ("addr", "old_addr", "new_addr"):
            if name in args:
                body[name] = hex(args[name]) if args[name] >= 0 else args[name]
        return self.http.call("POST", f"/v1/tasks/{self.pid}/{call}", body)

    def mmap(self, addr: int, length: int, prot: int, flags: int) -> int:
        return int(self._memory("mmap", addr=addr, length=length, prot=prot, flags=flags).json["addr"], 16)

    def munmap(self, addr: int, length: int) -> int:
        self._memory("munmap", addr=addr, length=length)
        return 0

    def mprotect(self, addr: int, length: int, prot: int) -> int:
        self._memory("mprotect", addr=addr, length=length, prot=prot)
        return 0

    def brk(self, addr: int = 0) -> int:
        return int(self._memory("brk", addr=addr).json["addr"], 16)

    def mremap(self, old_addr: int, old_size: int, new_size: int, flags: int = 0, new_addr: int = 0) -> int:
        sizes = {"old_size": old_size, "new_size": new_size, "flags": flags}
        answer = self._memory("mremap", old_addr=old_addr, new_addr=new_addr, **sizes)
        return int(answer.json["addr"], 16)

    def madvise(self, addr: int, length: int, advice: int) -> int:
        return int(self._memory("madvise", addr=addr, length=length, advice=advice).json["value"])

    def mincore(self, addr: int, length: int) -> bytes:
        return base64.b64decode(
            self._memory("mincore", addr=addr, length=length).json["value"], validate=True
        )

    def mlock(self, addr: int, length: int, flags: int = 0) -> int:
        return int(self._memory("mlock", addr=addr, length=length, flags=flags).json["value"])

    def munlock(self, addr: int, length: int) -> int:
        return int(self._memory("munlock", addr=addr, length=length).json["value"])

    def msync(self, addr: int = 0, length: int = 0, flags: int = 4) -> int:
        self._memory("msync", addr=addr, length=length, flags=flags)
        return 0

    def prlimit(self, resource: str, value: int | None = None) -> int:
        body = given(resource=resource, value=value)
        return int(self.http.call("POST", f"/v1/tasks/{self.pid}/prlimit", body).json["value"])

    def maps(self) -> str:
        query = "" if self.tid == self.pid else f"?tid={self.tid}"
        return self.http.call("GET", f"/v1/proc/{self.pid}/maps{query}").text

    def exit(self) -> int:
        self.http.call("DELETE", f"/v1/tasks/{self.pid}/threads/{self.tid}")
        return 0


class HttpTask(HttpThread):
    """A task, spoken to over raw HTTP."""

    @classmethod
    def spawn(cls, http: Http, **members: Any) -> Self:
        made = http.call("POST", "/v1/tasks", members, status=201).json
        assert made["tid"] == made["pid"]
        return cls(http, made["pid"], made["tid"])

    def thread(self) -> HttpThread:
        made = self.http.call("POST", f"/v1/tasks/{self.pid}/threads", {}, status=201).json
        return HttpThread(self.http, self.pid, made["tid"])

    def fork(self) -> "HttpTask":
        made = self.http.call("POST", f"/v1/tasks/{self.pid}/fork", {}, status=201).json
        return HttpTask(self.http, made["pid"], made["tid"])

    def exec(self) -> int:
        made = self.http.call("POST", f"/v1/tasks/{self.pid}/exec", {}, status=200).json
        assert (made["pid"], made["tid"]) == (self.pid, self.tid)
        return 0

    def exit(self) -> int:
        self.http.call("DELETE", f"/v1/tasks/{self.pid}")
        return 0


def b64(data: bytes) -> str:
    """Bytes as a batch takes them."""
    return base64.b64encode(data).decode("ascii")
