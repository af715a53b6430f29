"""What only the SDK has: its names, defaults, context managers, objects, and the asynchronous twin."""

import errno
import inspect

import pytest

import everspace
from tests.conformance.support.calls import PAGE, TaskCalls
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

CONSTANTS = {
    "PROT_NONE": 0, "PROT_READ": 1, "PROT_WRITE": 2, "PROT_EXEC": 4, "MAP_SHARED": 1, "MAP_PRIVATE": 2,
    "MAP_FIXED": 0x10, "MAP_ANONYMOUS": 0x20, "MAP_FIXED_NOREPLACE": 0x100000, "O_RDONLY": 0, "O_WRONLY": 1,
    "O_RDWR": 2, "MMVIEW_CREATE": 0, "MMVIEW_DELETE": 1, "MMVIEW_CURRENT": 2, "MMVIEW_MIGRATE": 3, "MMVIEW_UNSHARE": 4,
    "MMVIEW_SHARE": 5, "MMVIEW_SWITCH_BASE": 6, "MS_ASYNC": 1, "MS_SYNC": 4,
}  # fmt: skip
CALLS = [
    "vas_create",
    "vas_delete",
    "vas_find",
    "vas_attach",
    "vas_detach",
    "vas_switch",
    "active_vas",
    "vas_getattr",
    "vas_setattr",
    "vas_seg_create",
    "vas_seg_delete",
    "vas_seg_find",
    "vas_seg_attach",
    "vas_seg_detach",
    "vas_seg_getattr",
    "vas_seg_setattr",
    "read",
    "write",
    "mmap",
    "munmap",
    "mprotect",
    "brk",
    "msync",
    "maps",
    "mmview",
    "mmview_create",
    "mmview_migrate",
    "mmview_delete",
    "mmview_unshare",
    "new_as",
    "switch_as",
    "vas_clone",
    "vas_seg_clone",
    "vas_snapshot",
    "vas_seg_snapshot",
    "vas_reset",
    "vas_seg_reset",
    "vas_fork",
    "vas_exec",
    "vas_mmap",
    "vas_munmap",
    "vas_mprotect",
    "vas_malloc",
    "vas_free",
    "vas_set_root",
    "vas_get_root",
]


@row("SDK-NAMES-1", "sdk")
def test_constants_and_names_are_in_the_package(world: World) -> None:
    assert {name: getattr(everspace, name) for name in CONSTANTS} == CONSTANTS
    assert set(CONSTANTS) | {"connect", "aconnect", "VasError", "errors"} <= set(everspace.__all__) | {
        "errors"
    }
    assert all(hasattr(everspace, name) for name in everspace.__all__)
    for call in CALLS:
        for kind in (everspace.Task, everspace.Thread):
            assert callable(getattr(kind, call)), call


@row("SDK-SIGNATURE-1", "sdk")
def test_parameters_have_the_names_of_the_contract(world: World) -> None:
    def names(function: object) -> list[str]:
        assert callable(function)
        return [name for name in inspect.signature(function).parameters if name != "self"]

    task = everspace.Task
    assert names(task.vas_create) == ["name", "mode", "sharing", "lifetime"]
    assert names(task.vas_attach) == ["pid", "vid", "type", "lazy"]
    assert names(task.vas_detach) == ["pid", "vid"]
    assert names(task.vas_switch) == ["vid", "timeout"]
    assert names(task.vas_setattr)[:4] == ["vid", "mode", "uid", "gid"]
    assert names(task.vas_seg_create)[:5] == ["name", "start", "end", "mode", "sharing"]
    assert names(task.vas_seg_attach) == ["vid", "sid", "type"]
    assert names(task.read) == ["addr", "length"]
    assert names(task.write) == ["addr", "data", "durability"]
    assert names(task.mmap) == ["addr", "length", "prot", "flags"]
    assert names(task.brk) == ["addr"]
    assert names(task.mmview_migrate) == names(task.mmview_delete) == ["id"]
    assert names(task.mmview_unshare) == ["addr", "len"]
    assert (names(task.new_as), names(task.switch_as)) == ([], ["n"])
    assert names(task.vas_clone) == ["vid", "name"]
    assert names(task.vas_seg_clone) == ["sid", "name"]
    assert names(task.vas_malloc) == ["size", "sid"]
    assert names(task.vas_free) == ["addr"]
    assert names(task.vas_set_root) == ["name", "addr"]
    assert names(task.vas_get_root) == ["name"]
    assert names(everspace.connect)[:3] == ["url", "token", "timeout"]


@row("SDK-ERRORS-1", "sdk")
def test_every_error_is_an_oserror_and_pythons_own_where_there_is_one(world: World) -> None:
    vid = world.space(0)
    cases: list[tuple[type[OSError], int, object]] = [
        (FileExistsError, errno.EEXIST, lambda: world.owner.vas_create(world.owner.vas_getattr(vid).name, 0)),
        (PermissionError, errno.EACCES, lambda: world.owner.vas_delete(vid)),
        (PermissionError, errno.EPERM, lambda: world.other.vas_setattr(vid, mode=0)),
        (ProcessLookupError, errno.ESRCH, lambda: world.owner.vas_find(world.name())),
        (OSError, errno.EINVAL, lambda: world.owner.vas_delete(0)),
        (OSError, errno.EFAULT, lambda: world.owner.read(BASE, 1)),
    ]
    for kind, number, call in cases:
        assert callable(call)
        with pytest.raises(kind) as raised:
            call()
        assert isinstance(raised.value, everspace.VasError)
        assert raised.value.errno == number


@row("SDK-TASK-1", "sdk")
def test_leaving_a_task_is_exit(world: World) -> None:
    client = world.site.clients["owner"]
    vid = world.space()
    with client.spawn(name="worker", lease=30.0) as task:
        assert task.tid == task.pid
        task.vas_attach(0, vid, everspace.O_RDWR)
        assert world.owner.vas_getattr(vid).attach_count == 1
    assert world.owner.vas_getattr(vid).attach_count == 0
    with pytest.raises(ProcessLookupError):
        task.active_vas()


@row("SDK-DEFAULTS-1", "sdk")
def test_url_and_token_come_from_the_environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERSPACE_URL", world.site.service.url)
    monkeypatch.setenv("EVERSPACE_TOKEN", world.site.tokens["other"])
    with everspace.connect() as client, client.spawn() as task:
        assert world.owner.vas_getattr(task.vas_create(world.name(), 0)).uid == 1003


@row("SDK-OBJECTS-1", "sdk")
def test_spaces_and_segments_are_objects_too(world: World) -> None:
    client = world.site.clients["owner"]
    assert isinstance(world.owner, everspace.Task)
    segment = client.segments.create(world.name(), BASE, BASE + PAGE, 0o600)
    space = client.spaces.create(world.name(), 0o600)
    assert client.spaces.find(world.owner.vas_getattr(space.vid).name).vid == space.vid
    assert client.segments.get(segment.sid).sid == segment.sid
    world.owner.vas_seg_attach(space.vid, segment.sid, everspace.O_RDWR)
    space.attach(world.owner, "rw")
    world.owner.vas_switch(space.vid)
    segment.pwrite(0, b"object")
    assert world.owner.read(BASE, 6) == b"object"


@row("SDK-ASYNC-1", "sdk")
async def test_the_asynchronous_twin_does_the_same(world: World) -> None:
    vid, _ = world.space_with_segment()
    async with (
        everspace.aconnect(world.site.service.url, world.site.tokens["owner"]) as client,
        await client.spawn() as task,
    ):
        await task.vas_attach(0, vid, everspace.O_RDWR)
        await task.vas_switch(vid)
        await task.write(BASE, b"async")
        assert await task.read(BASE, 5) == b"async"
        with pytest.raises(FileExistsError):
            await task.vas_create(world.owner.vas_getattr(vid).name, 0)
        async with task.batch() as batch:
            seen = batch.read(BASE, 5)
        assert seen.result() == b"async"
        thread = await task.thread()
        assert await thread.active_vas() == 0


@row("SDK-OBJECTS-2", "sdk")
def test_objects_are_cloned_reset_compared_and_renamed(world: World) -> None:
    client = world.site.clients["owner"]
    segment = client.segments.create(world.name(), BASE, BASE + 4 * PAGE, 0o600)
    space = client.spaces.create(world.name(), 0o600)
    space.mmap(BASE + 64 * PAGE, PAGE, 3, 0x32)
    space.set_root("r", BASE)
    twin, copy = space.clone(world.name()), segment.clone(world.name())
    copy.pwrite(PAGE, b"changed")
    assert [(run.start, run.kind) for run in segment.diff(copy)] == [(BASE + PAGE, "changed")]
    assert copy.lineage().origins == (segment.sid,)
    assert (copy.usage().logical, twin.get_root("r"), twin.roots()) == (PAGE, BASE, {"r": BASE})
    copy.reset()
    twin.munmap(BASE + 64 * PAGE, PAGE)
    assert [run.kind for run in space.diff(twin)] == ["left"]
    twin.reset()
    assert (list(segment.diff(copy)), list(space.diff(twin))) == ([], [])
    kept = space.snapshot(world.name())
    assert kept.attr().snapshot
    name = world.name()
    twin.rename(name)
    assert client.spaces.find(name).vid == twin.vid
    twin.set_lifetime("transient")
    assert twin.attr().lifetime == "transient"


@row("SDK-ASYNC-2", "sdk")
async def test_the_asynchronous_twin_has_the_further_calls_too(world: World) -> None:
    vid, _ = world.space_with_segment(pages=16)
    async with (
        everspace.aconnect(world.site.service.url, world.site.tokens["owner"]) as client,
        await client.spawn() as task,
    ):
        await task.vas_attach(0, vid, everspace.O_RDWR)
        await task.vas_switch(vid)
        block = await task.vas_malloc(64)
        await task.vas_set_root("r", block)
        clone = await task.vas_clone(vid, world.name())
        assert (await task.vas_getattr(clone)).origin == vid
        assert await task.vas_get_root("r") == block
        await task.vas_free(block)
        view = await task.mmview(everspace.MMVIEW_CREATE)
        assert await task.mmview(everspace.MMVIEW_MIGRATE, view) == 0
        image = await task.vas_fork(world.name())
        assert await task.vas_exec(image) == 0
        assert await task.new_as() == 1
        with pytest.raises(FileNotFoundError):
            await task.switch_as(2)


@row("SDK-PROTOCOL-1", "sdk")
def test_the_sdks_task_has_the_calls_of_these_tests(world: World) -> None:
    """Checked by the type checker: the same tests go over raw HTTP and over the SDK."""
    with world.site.clients["owner"].spawn() as made:
        task: TaskCalls = made
        assert task.active_vas() == 0
