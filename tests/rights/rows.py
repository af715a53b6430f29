"""The matrix: one row for each way through a route, with what the caller needs for it. Names in braces are a World's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.app.support import BASE, PAGE
from tests.rights.needs import (
    ACCOUNT,
    OWN_TASK,
    OWNS,
    READS,
    READS_AND_WRITES,
    ROOT_ONLY,
    WRITES,
    Need,
)
from tests.rights.world import TEXT

RANGE = {"addr": hex(BASE), "length": PAGE}
NEW = BASE + 0x2000_0000
"""Where nothing is."""


@dataclass(frozen=True)
class Row:
    """A request: the route as the route table has it, what it needs, its body, and what the path's names stand for."""

    method: str
    path: str
    needs: tuple[Need, ...]
    body: Any = None
    names: Mapping[str, str] = field(default_factory=dict)
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    open: bool = False
    """Whether no token is needed."""

    @property
    def route(self) -> tuple[str, str]:
        """As the route table names it."""
        return self.method, self.path

    @property
    def by_mode(self) -> bool:
        """Whether a mode decides."""
        return any(need.bits for need in self.needs)

    def __str__(self) -> str:
        given = "".join(f",{key}={value}" for key, value in self.names.items())
        member = f",{'+'.join(self.body)}" if self.method == "PATCH" and isinstance(self.body, dict) else ""
        return f"{self.method} {self.path}{given}{member}"


def row(method: str, path: str, *needs: Need, body: Any = None, **more: Any) -> Row:
    return Row(method, f"/v1{path}", needs, body, **more)


def of_task(method: str, path: str, body: Any = None, task: str = "pid", **more: Any) -> Row:
    """About a task: for those of its uid, and root."""
    return Row(method, f"/v1{path}", (OWN_TASK,), body, {"pid": task}, **more)


PUBLIC = tuple(
    Row("GET", path, (), open=True, names={"name": "asset"} if "{" in path else {})
    for path in (
        "/healthz",
        "/readyz",
        "/metrics",
        "/version",
        "/openapi.json",
        "/docs",
        "/docs/{name}",
        "/favicon.ico",
    )
)

SPACES = (
    row("POST", "/vas", ACCOUNT, body={"name": "{new}", "mode": 0o600}, status=201),
    row("GET", "/vas", ACCOUNT),
    row("GET", "/vas", ACCOUNT, query="?name={space_name}"),
    row("GET", "/vas/{vid}", ACCOUNT),
    row("PATCH", "/vas/{vid}", OWNS, body={"mode": 0o600}),
    row("PATCH", "/vas/{vid}", OWNS, body={"name": "{new}"}),
    row("PATCH", "/vas/{vid}", OWNS, body={"lifetime": "transient"}),
    row("PATCH", "/vas/{vid}", OWNS, body={"sharing": "lockable"}, names={"vid": "loose"}),
    row("PATCH", "/vas/{vid}", ROOT_ONLY, body={"uid": 1003}),
    row("PATCH", "/vas/{vid}", ROOT_ONLY, body={"gid": 1003}),
    row("DELETE", "/vas/{vid}", WRITES, names={"vid": "loose"}, status=204),
    row("GET", "/vas/{vid}/regions", READS),
    row("GET", "/vas/{vid}/segments", ACCOUNT),
    row("GET", "/vas/{vid}/lock", ACCOUNT),
    row("PUT", "/vas/{vid}/segments/{sid}", READS, WRITES, body={"type": "ro"}, names={"vid": "loose", "sid": "free"}),
    row("PUT", "/vas/{vid}/segments/{sid}", READS_AND_WRITES, WRITES, body={"type": "rw"}, names={"vid": "loose", "sid": "free"}),
    row("DELETE", "/vas/{vid}/segments/{sid}", WRITES, names={"vid": "loose", "sid": "within"}, status=204),
    row("POST", "/vas/{vid}/mmap", WRITES, body={"addr": hex(NEW), "length": PAGE, "prot": 3, "flags": 0x32}),
    row("POST", "/vas/{vid}/munmap", WRITES, body=RANGE),
    row("POST", "/vas/{vid}/mprotect", WRITES, body={**RANGE, "prot": 1}),
    row("GET", "/vas/{vid}/core", READS),
    row("HEAD", "/vas/{vid}/core", READS),
    row("GET", "/vas/{vid}/diff", READS, query="?other={twin}"),
    row("GET", "/sys/vas/{vid}/{file}", ACCOUNT, names={"file": "mode_file"}),
)  # fmt: skip

ROOTS = (
    row("GET", "/vas/{vid}/roots", READS),
    row("PUT", "/vas/{vid}/roots/{name}", WRITES, body={"addr": hex(BASE)}, names={"name": "root"}),
    row("GET", "/vas/{vid}/roots/{name}", READS, names={"name": "root"}),
    row("DELETE", "/vas/{vid}/roots/{name}", WRITES, names={"name": "root"}, status=204),
    row("PUT", "/tasks/{pid}/roots/{name}", OWN_TASK, body={"addr": hex(BASE)}, names={"name": "root"}),
    row("GET", "/tasks/{pid}/roots/{name}", OWN_TASK, names={"name": "root"}),
)

CLONES = (
    row("POST", "/vas/{vid}/clone", READS, body={"name": "{new}"}, status=201),
    row("POST", "/vas/{vid}/snapshot", READS, body={"name": "{new}"}, status=201),
    row("POST", "/vas/{vid}/reset", OWNS, body={}, names={"vid": "twin"}),
    row("GET", "/vas/{vid}/lineage", ACCOUNT),
    row("GET", "/vas/{vid}/usage", ACCOUNT),
    row("POST", "/segments/{sid}/clone", READS, body={"name": "{new}"}, status=201),
    row("POST", "/segments/{sid}/snapshot", READS, body={"name": "{new}"}, status=201),
    row("POST", "/segments/{sid}/reset", OWNS, body={}, names={"sid": "double"}),
    row("GET", "/segments/{sid}/lineage", ACCOUNT),
    row("GET", "/segments/{sid}/usage", ACCOUNT),
    of_task("POST", "/tasks/{pid}/vas_fork", {"name": "{new}"}, status=201),
    row("POST", "/tasks/{pid}/vas_exec", OWN_TASK, READS_AND_WRITES, body={"vid": "{image}"}),
    row("POST", "/tasks/{pid}/vas_exec", READS_AND_WRITES, body={"vid": "{image}"}, names={"pid": "mine"}),
)

SEGMENTS = (
    row("POST", "/segments", ACCOUNT, body={"name": "{new}", "start": hex(NEW), "end": hex(NEW + PAGE), "mode": 0o600}, status=201),
    row("GET", "/segments", ACCOUNT),
    row("GET", "/segments", ACCOUNT, query="?name={segment_name}"),
    row("GET", "/segments/{sid}", ACCOUNT),
    row("PATCH", "/segments/{sid}", OWNS, body={"mode": 0o600}),
    row("PATCH", "/segments/{sid}", OWNS, body={"name": "{new}"}),
    row("PATCH", "/segments/{sid}", OWNS, body={"lifetime": "transient"}),
    row("PATCH", "/segments/{sid}", OWNS, body={"sharing": "lockable"}, names={"sid": "free"}),
    row("PATCH", "/segments/{sid}", ROOT_ONLY, body={"uid": 1003}),
    row("PATCH", "/segments/{sid}", ROOT_ONLY, body={"gid": 1003}),
    row("DELETE", "/segments/{sid}", WRITES, names={"sid": "free"}, status=204),
    row("GET", "/segments/{sid}/data", READS),
    row("HEAD", "/segments/{sid}/data", READS),
    row("GET", "/segments/{sid}/data", READS, headers={"range": "bytes=0-3"}, status=206),
    row("PATCH", "/segments/{sid}/data", WRITES, body=b"evil", headers={"content-range": "bytes 0-3/*"}, status=204),
    row("GET", "/segments/{sid}/heap", READS),
    row("GET", "/segments/{sid}/diff", READS, query="?other={double}"),
    row("GET", "/sys/vas_segs/{sid}/{file}", ACCOUNT, names={"file": "region_file"}),
)  # fmt: skip

TASKS = (
    row("POST", "/tasks", ACCOUNT, body={}, status=201),
    row("GET", "/tasks", ACCOUNT),
    row("GET", "/tasks/{pid}", ACCOUNT),
    of_task("DELETE", "/tasks/{pid}", status=204),
    of_task("POST", "/tasks/{pid}/fork", {}, status=201),
    of_task("POST", "/tasks/{pid}/exec", {}),
    of_task("POST", "/tasks/{pid}/heartbeat", {}),
    of_task("POST", "/tasks/{pid}/threads", {}, status=201),
    row("DELETE", "/tasks/{pid}/threads/{tid}", OWN_TASK, status=204),
    row("PUT", "/tasks/{pid}/threads/{tid}/active", OWN_TASK, body={"vid": "{vid}"}),
    row("GET", "/tasks/{pid}/threads/{tid}/active", OWN_TASK),
    row("PUT", "/tasks/{pid}/vas/{vid}", OWN_TASK, READS, body={"type": "ro"}, names={"vid": "loose"}),
    row("PUT", "/tasks/{pid}/vas/{vid}", OWN_TASK, READS_AND_WRITES, body={"type": "rw"}, names={"vid": "loose"}),
    *(
        row("PUT", "/tasks/{pid}/vas/{vid}", need, body={"type": kind}, names={"vid": "loose", "pid": "mine"})
        for kind, need in (("ro", READS), ("wo", WRITES), ("rw", READS_AND_WRITES))
    ),
    row("GET", "/tasks/{pid}/vas/{vid}", OWN_TASK),
    row("DELETE", "/tasks/{pid}/vas/{vid}", OWN_TASK, names={"pid": "holder"}, status=204),
    of_task("GET", "/tasks/{pid}/limits"),
    of_task("PUT", "/tasks/{pid}/limits", {"stack": 1 << 20}),
    of_task("POST", "/tasks/{pid}/prlimit", {"resource": "stack", "value": 1 << 20}),
    row("POST", "/tasks/{pid}/prlimit", ROOT_ONLY, body={"resource": "stack", "value": 1 << 40}),
    row("GET", "/proc/{pid}/maps", OWN_TASK),
    row("GET", "/proc/{pid}/smaps", OWN_TASK),
    row("GET", "/proc/{pid}/status", ACCOUNT),
    row("GET", "/proc/{pid}/vas", OWN_TASK),
    row("GET", "/proc/{pid}/vas/{vid}/status", ACCOUNT),
    row("GET", "/proc/{pid}/vas/{vid}/maps", OWN_TASK),
    of_task("GET", "/tasks/{pid}/core"),
    of_task("HEAD", "/tasks/{pid}/core"),
    of_task("GET", "/tasks/{pid}/memory", query=f"?addr={BASE:#x}&len=64"),
    of_task("PUT", "/tasks/{pid}/memory", b"evil", query=f"?addr={BASE:#x}", status=204),
    of_task("POST", "/tasks/{pid}/batch", {"calls": []}),
    of_task("POST", "/tasks/{pid}/batch", {"calls": [{"call": "read", "args": {"addr": hex(BASE), "length": 8}}]}),
    row("GET", "/events", ACCOUNT),
    row("HEAD", "/events", ACCOUNT),
    row("GET", "/account", ACCOUNT),
    row("GET", "/audit", ACCOUNT),
    row("GET", "/audit", ACCOUNT, query="?uid={own_uid}"),
    row("GET", "/audit", OWNS, query="?uid=1001"),
    row("GET", "/audit", ROOT_ONLY, query="?uid=0"),
)  # fmt: skip

MEMORY = (
    of_task("POST", "/tasks/{pid}/mmap", {"addr": hex(NEW), "length": PAGE, "prot": 3, "flags": 0x32}),
    of_task("POST", "/tasks/{pid}/munmap", RANGE),
    of_task("POST", "/tasks/{pid}/mprotect", {**RANGE, "prot": 1}),
    of_task("POST", "/tasks/{pid}/mremap", {"old_addr": hex(BASE), "old_size": PAGE, "new_size": PAGE}),
    of_task("POST", "/tasks/{pid}/brk", {}),
    of_task("POST", "/tasks/{pid}/madvise", {**RANGE, "advice": 4}),
    of_task("POST", "/tasks/{pid}/mincore", RANGE),
    of_task("POST", "/tasks/{pid}/mlock", RANGE),
    of_task("POST", "/tasks/{pid}/munlock", RANGE),
    of_task("POST", "/tasks/{pid}/msync", {}),
    of_task("POST", "/tasks/{pid}/heap", {"size": 64, "sid": "{sid}"}),
    row("DELETE", "/tasks/{pid}/heap/{addr}", OWN_TASK, status=204),
    of_task("POST", "/tasks/{pid}/mmview", {"op": 2}, "viewer"),
    of_task("POST", "/tasks/{pid}/mmview_create", {}, "viewer"),
    of_task("POST", "/tasks/{pid}/mmview_migrate", {"id": -1}, "viewer"),
    of_task("POST", "/tasks/{pid}/mmview_delete", {"id": 1}, "viewer"),
    of_task("POST", "/tasks/{pid}/mmview_unshare", {"addr": hex(TEXT), "len": PAGE}, "plain"),
    of_task("POST", "/tasks/{pid}/new_as", {}, "plain"),
    of_task("POST", "/tasks/{pid}/switch_as", {"n": 0}, "slotted"),
)

ROWS: tuple[Row, ...] = (*PUBLIC, *SPACES, *ROOTS, *CLONES, *SEGMENTS, *TASKS, *MEMORY)
