"""Which call's answer leads to which other call: the links of the OpenAPI document.

An answer that tells an id leads to every call with that id in its path; the few relations that an id alone does
not tell (attach leads to switch, mmap to load and store) are listed by hand.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

MAKERS: Final[Mapping[str, tuple[str, str]]] = {
    "vas_create": ("vid", "id"),
    "vas_clone": ("vid", "id"),
    "vas_seg_create": ("sid", "id"),
    "vas_seg_clone": ("sid", "id"),
    "spawn": ("pid", "pid"),
}
"""The call whose answer tells an id: the path parameter that it is, and the member that tells it."""

PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "vid": ("/v1/vas/{vid}", "/v1/sys/vas/{vid}"),
    "sid": ("/v1/segments/{sid}", "/v1/sys/vas_segs/{sid}"),
    "pid": ("/v1/tasks/{pid}", "/v1/proc/{pid}"),
}
"""The paths that an id leads to."""

OF_TASK: Final = {"pid": "$request.path.pid"}
OF_THREAD: Final = {**OF_TASK, "tid": "$request.path.pid"}
AT: Final = {"addr": "$response.body#/addr"}
LENGTH: Final = {"length": "$request.body#/length"}


@dataclass(frozen=True, slots=True)
class Link:
    """From the success of one call to another: its parameters and members of its body as runtime expressions."""

    source: str
    target: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)


LINKS: Final = (
    Link("vas_create", "vas_attach", {"vid": "$response.body#/id"}, {"type": "rw"}),
    Link("vas_create", "vas_seg_attach", {"vid": "$response.body#/id"}, {"type": "rw"}),
    Link("vas_seg_create", "vas_seg_attach", {"sid": "$response.body#/id"}, {"type": "rw"}),
    Link("vas_seg_attach", "vas_seg_detach", {"vid": "$request.path.vid", "sid": "$request.path.sid"}),
    Link("vas_attach", "vas_switch", OF_THREAD, {"vid": "$request.path.vid"}),
    Link("vas_attach", "vas_detach", {**OF_TASK, "vid": "$request.path.vid"}),
    Link("vas_attach", "attachment", {**OF_TASK, "vid": "$request.path.vid"}),
    Link("vas_attach", "proc_vas_status", {**OF_TASK, "vid": "$request.path.vid"}),
    Link("vas_attach", "proc_vas_maps", {**OF_TASK, "vid": "$request.path.vid"}),
    Link("vas_switch", "active_vas", {**OF_TASK, "tid": "$request.path.tid"}),
    Link("vas_switch", "mmap", OF_TASK),
    Link("vas_fork", "vas_exec", OF_TASK, {"vid": "$response.body#/id"}),
    Link("thread", "exit_thread", {**OF_TASK, "tid": "$response.body#/tid"}),
    Link("thread", "active_vas", {**OF_TASK, "tid": "$response.body#/tid"}),
    Link("mmap", "read", {**OF_TASK, **AT, "len": "$request.body#/length"}),
    Link("mmap", "write", {**OF_TASK, **AT}),
    Link("mmap", "munmap", OF_TASK, {**AT, **LENGTH}),
    Link("mmap", "mprotect", OF_TASK, {**AT, **LENGTH, "prot": 1}),
    Link("mmap", "madvise", OF_TASK, {**AT, **LENGTH, "advice": 4}),
    Link("mmap", "mincore", OF_TASK, {**AT, **LENGTH}),
    Link("mmap", "mlock", OF_TASK, {**AT, **LENGTH}),
    Link("mmap", "msync", OF_TASK, {**AT, **LENGTH}),
    Link(
        "mmap",
        "mremap",
        OF_TASK,
        {"old_addr": AT["addr"], "old_size": LENGTH["length"], "new_size": 8192, "flags": 1},
    ),
    Link("vas_malloc", "vas_free", {**OF_TASK, **AT}),
    Link("set_root", "get_root", {**OF_TASK, "name": "$request.path.name"}),
    Link("vas_set_root", "vas_get_root", {"vid": "$request.path.vid", "name": "$request.path.name"}),
    Link("vas_set_root", "vas_delete_root", {"vid": "$request.path.vid", "name": "$request.path.name"}),
    Link("new_as", "switch_as", OF_TASK, {"n": "$response.body#/value"}),
    Link("mmview_create", "mmview_migrate", OF_TASK, {"id": "$response.body#/value"}),
    Link("mmview_create", "mmview_delete", OF_TASK, {"id": "$response.body#/value"}),
)


def linked(paths: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Puts links into the answers of `paths`, in place; the link objects by name, which they refer to.

    Raises KeyError if a link names a call that there is not.
    """
    operations = {
        operation["operationId"]: operation for each in paths.values() for operation in each.values()
    }
    objects: dict[str, Any] = {}
    for link in (*LINKS, *_by_id(paths)):
        name = f"{link.source}.{link.target}"
        if name in objects:
            continue
        objects[name] = {
            "operationId": operations[link.target]["operationId"],
            "parameters": dict(link.parameters),
        }
        if link.body:
            objects[name]["requestBody"] = dict(link.body)
        for status, response in operations[link.source]["responses"].items():
            if status.startswith("2"):
                response.setdefault("links", {})[link.target] = {"$ref": f"#/components/links/{name}"}
    return objects


def _by_id(paths: Mapping[str, Mapping[str, Any]]) -> Iterator[Link]:
    for maker, (parameter, member) in MAKERS.items():
        for path, operations in paths.items():
            named = path.count("{")
            if path.startswith(PLACES[parameter]) and (named == 1 or "{file}" in path or "{name}" in path):
                for operation in operations.values():
                    parameters = {parameter: f"$response.body#/{member}"}
                    yield Link(maker, operation["operationId"], parameters)
