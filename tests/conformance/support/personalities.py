"""The calls of mmview, multias, SpaceJMP and the work after the RFC: as a protocol, and over raw HTTP.

`Personalities` is a part of what the SDK's Task and Thread have; `HttpPersonalities` a part of HttpThread.
"""

from typing import Any, Protocol
from urllib.parse import quote

from tests.conformance.support.http import Http

CREATE, DELETE, CURRENT, MIGRATE, UNSHARE, SHARE, SWITCH_BASE = range(7)
MMVIEW_ARGS = {DELETE: ("id",), MIGRATE: ("id",), UNSHARE: ("addr", "len"), SHARE: ("addr", "len")}
"""Operation → the members that carry its arguments."""


class Personalities(Protocol):
    """What a thread can ask beyond the calls of the RFC and of memory."""

    def mmview(self, op: int, *args: int) -> int: ...
    def mmview_create(self) -> int: ...
    def mmview_migrate(self, id: int) -> int: ...
    def mmview_delete(self, id: int) -> int: ...
    def mmview_unshare(self, addr: int, length: int, /) -> int: ...
    def new_as(self) -> int: ...
    def switch_as(self, n: int) -> int: ...
    def vas_clone(self, vid: int, name: str) -> int: ...
    def vas_seg_clone(self, sid: int, name: str) -> int: ...
    def vas_snapshot(self, vid: int, name: str) -> int: ...
    def vas_seg_snapshot(self, sid: int, name: str) -> int: ...
    def vas_reset(self, vid: int) -> int: ...
    def vas_seg_reset(self, sid: int) -> int: ...
    def vas_fork(self, name: str | None = None) -> int: ...
    def vas_exec(self, vid: int) -> int: ...
    def vas_mmap(self, vid: int, addr: int, length: int, prot: int, flags: int) -> int: ...
    def vas_munmap(self, vid: int, addr: int, length: int) -> int: ...
    def vas_mprotect(self, vid: int, addr: int, length: int, prot: int) -> int: ...
    def vas_malloc(self, size: int, sid: int | None = None) -> int: ...
    def vas_free(self, addr: int) -> int: ...
    def vas_set_root(self, name: str, addr: int) -> int: ...
    def vas_get_root(self, name: str) -> int: ...


def part(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="", errors="surrogatepass")


class HttpPersonalities:
    """The same calls of a thread over raw HTTP."""

    http: Http
    pid: int
    tid: int

    def _ask(self, call: str, **members: Any) -> Any:
        """POST to a route of the task; `tid` goes along unless it is the main thread's."""
        body = members if self.tid == self.pid else members | {"tid": self.tid}
        return self.http.call("POST", f"/v1/tasks/{self.pid}/{call}", body, status=(200, 201)).json

    def _query(self) -> str:
        return "" if self.tid == self.pid else f"?tid={self.tid}"

    def mmview(self, op: int, *args: int) -> int:
        members = dict(zip(MMVIEW_ARGS.get(op, ()), args, strict=True))
        return int(self._ask("mmview", op=op, **members)["value"])

    def mmview_create(self) -> int:
        return int(self._ask("mmview_create")["value"])

    def mmview_migrate(self, id: int) -> int:
        return int(self._ask("mmview_migrate", id=id)["value"])

    def mmview_delete(self, id: int) -> int:
        return int(self._ask("mmview_delete", id=id)["value"])

    def mmview_unshare(self, addr: int, length: int, /) -> int:
        return int(self._ask("mmview_unshare", addr=hex(addr), len=length)["value"])

    def new_as(self) -> int:
        return int(self._ask("new_as")["value"])

    def switch_as(self, n: int) -> int:
        return int(self._ask("switch_as", n=n)["value"])

    def _made(self, path: str, name: str) -> int:
        return int(self.http.call("POST", f"/v1/{path}", {"name": name}, status=201).json["id"])

    def vas_clone(self, vid: int, name: str) -> int:
        return self._made(f"vas/{vid}/clone", name)

    def vas_seg_clone(self, sid: int, name: str) -> int:
        return self._made(f"segments/{sid}/clone", name)

    def vas_snapshot(self, vid: int, name: str) -> int:
        return self._made(f"vas/{vid}/snapshot", name)

    def vas_seg_snapshot(self, sid: int, name: str) -> int:
        return self._made(f"segments/{sid}/snapshot", name)

    def vas_reset(self, vid: int) -> int:
        assert self.http.call("POST", f"/v1/vas/{vid}/reset", {}, status=200).json["id"] == vid
        return 0

    def vas_seg_reset(self, sid: int) -> int:
        assert self.http.call("POST", f"/v1/segments/{sid}/reset", {}, status=200).json["id"] == sid
        return 0

    def vas_fork(self, name: str | None = None) -> int:
        return int(self._ask("vas_fork", **({} if name is None else {"name": name}))["id"])

    def vas_exec(self, vid: int) -> int:
        told = self.http.call("POST", f"/v1/tasks/{self.pid}/vas_exec", {"vid": vid}, status=200).json
        assert told["pid"] == self.pid
        return 0

    def _space_memory(self, vid: int, call: str, **args: Any) -> Any:
        return self.http.call("POST", f"/v1/vas/{vid}/{call}", args).json

    def vas_mmap(self, vid: int, addr: int, length: int, prot: int, flags: int) -> int:
        made = self._space_memory(vid, "mmap", addr=hex(addr), length=length, prot=prot, flags=flags)
        return int(made["addr"], 16)

    def vas_munmap(self, vid: int, addr: int, length: int) -> int:
        self.http.call("POST", f"/v1/vas/{vid}/munmap", {"addr": hex(addr), "length": length})
        return 0

    def vas_mprotect(self, vid: int, addr: int, length: int, prot: int) -> int:
        body = {"addr": hex(addr), "length": length, "prot": prot}
        self.http.call("POST", f"/v1/vas/{vid}/mprotect", body)
        return 0

    def vas_malloc(self, size: int, sid: int | None = None) -> int:
        return int(self._ask("heap", size=size, **({} if sid is None else {"sid": sid}))["addr"], 16)

    def vas_free(self, addr: int) -> int:
        self.http.call("DELETE", f"/v1/tasks/{self.pid}/heap/{addr:#x}{self._query()}")
        return 0

    def vas_set_root(self, name: str, addr: int) -> int:
        path = f"/v1/tasks/{self.pid}/roots/{part(name)}{self._query()}"
        self.http.call("PUT", path, {"addr": hex(addr)})
        return 0

    def vas_get_root(self, name: str) -> int:
        path = f"/v1/tasks/{self.pid}/roots/{part(name)}{self._query()}"
        return int(self.http.get(path)["addr"], 16)
