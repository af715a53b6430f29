"""Every call of a batch, made in everybody's own task: on the owner's things, for the owner's tasks, by the owner's threads."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from app.calls.table import CALLS
from everspace.wire import frames
from tests.app.support import BASE, PAGE
from tests.rights.needs import (
    ACCOUNT,
    KNOWN,
    OWN_TASK,
    OWNS,
    READS,
    READS_AND_WRITES,
    ROOT_ONLY,
    WRITES,
    Caller,
    Need,
    refusal,
)
from tests.rights.world import FREE, SECRET, Callers, World

MODES = (0o640, 0o406)
RANGE = {"addr": hex(BASE), "length": PAGE}


@dataclass(frozen=True)
class Made:
    """A call on things of the owner's, and what it needs."""

    call: str
    args: dict[str, Any]
    needs: tuple[Need, ...]

    def __str__(self) -> str:
        return f"{self.call}({','.join(self.args)})"


def made(call: str, *needs: Need, **args: Any) -> Made:
    return Made(call, args, needs)


ON_THINGS = (
    made("vas_create", ACCOUNT, name="{new}", mode=0o600),
    made("vas_delete", WRITES, vid="{loose}"),
    made("vas_find", ACCOUNT, name="{space_name}"),
    made("vas_attach", READS, vid="{loose}", type="ro"),
    made("vas_attach", WRITES, vid="{loose}", type="wo"),
    made("vas_attach", READS_AND_WRITES, vid="{loose}", type="rw"),
    made("vas_attach", OWN_TASK, READS, vid="{loose}", type="ro", pid="{plain}"),
    made("vas_detach", OWN_TASK, vid="{vid}", pid="{holder}"),
    made("vas_getattr", ACCOUNT, vid="{vid}"),
    made("vas_setattr", OWNS, vid="{vid}", mode=0o666),
    made("vas_setattr", OWNS, vid="{vid}", name="{new}"),
    made("vas_setattr", ROOT_ONLY, vid="{vid}", uid=1003),
    made("vas_setattr", ROOT_ONLY, vid="{vid}", gid=1003),
    made("vas_seg_create", ACCOUNT, name="{new}", start=hex(BASE), end=hex(BASE + PAGE), mode=0o600),
    made("vas_seg_delete", WRITES, sid="{free}"),
    made("vas_seg_find", ACCOUNT, name="{segment_name}"),
    made("vas_seg_attach", READS, WRITES, vid="{loose}", sid="{free}", type="ro"),
    made("vas_seg_attach", READS_AND_WRITES, WRITES, vid="{loose}", sid="{free}", type="rw"),
    made("vas_seg_detach", WRITES, vid="{loose}", sid="{within}"),
    made("vas_seg_getattr", ACCOUNT, sid="{sid}"),
    made("vas_seg_setattr", OWNS, sid="{sid}", mode=0o666),
    made("vas_seg_setattr", OWNS, sid="{sid}", name="{new}"),
    made("vas_seg_setattr", ROOT_ONLY, sid="{sid}", uid=1003),
    made("vas_seg_setattr", ROOT_ONLY, sid="{sid}", gid=1003),
    made("vas_clone", READS, vid="{vid}", name="{new}"),
    made("vas_seg_clone", READS, sid="{sid}", name="{new}"),
    made("vas_snapshot", READS, vid="{vid}", name="{new}"),
    made("vas_seg_snapshot", READS, sid="{sid}", name="{new}"),
    made("vas_reset", OWNS, vid="{twin}"),
    made("vas_seg_reset", OWNS, sid="{double}"),
    made("vas_lineage", ACCOUNT, vid="{vid}"),
    made("vas_seg_lineage", ACCOUNT, sid="{sid}"),
    made("vas_exec", READS_AND_WRITES, vid="{image}"),
    made("vas_mmap", WRITES, vid="{vid}", addr=hex(BASE + 0x2000_0000), length=PAGE, prot=3, flags=0x32),
    made("vas_munmap", WRITES, vid="{vid}", **RANGE),
    made("vas_mprotect", WRITES, vid="{vid}", **RANGE, prot=1),
    made("vas_delete_root", WRITES, vid="{vid}", name="first"),
    made("vas_roots", READS, vid="{vid}"),
    made("heap_usage", READS, sid="{sid}"),
)

BY_THREADS = (
    made("read", **RANGE),
    made("write", addr=hex(BASE), data="ZXZpbA=="),
    made("mmap", **RANGE, prot=3, flags=0x22),
    made("munmap", **RANGE),
    made("mprotect", **RANGE, prot=1),
    made("mremap", old_addr=hex(BASE), old_size=PAGE, new_size=PAGE),
    made("brk"),
    made("madvise", **RANGE, advice=4),
    made("mincore", **RANGE),
    made("mlock", **RANGE),
    made("munlock", **RANGE),
    made("msync"),
    made("mmview", op=2),
    made("mmview_create"),
    made("mmview_migrate", id=-1),
    made("mmview_delete", id=1),
    made("mmview_unshare", addr=hex(BASE), len=PAGE),
    made("new_as"),
    made("switch_as", n=0),
    made("vas_malloc", size=8),
    made("vas_free", addr=hex(BASE)),
    made("vas_fork", name="{new}"),
    made("vas_switch", vid="{vid}", timeout=0),
    made("active_vas"),
    made("vas_set_root", name="first", addr=hex(FREE)),
    made("vas_get_root", name="first"),
    made("fork"),
    made("thread"),
    made("exit_thread"),
    made("maps"),
    made("smaps"),
)
"""Calls that name a thread: that of another task is none of one's own, whoever asks."""

OF_THE_OWN_TASK = frozenset({"exit", "exec", "prlimit", "heartbeat"})
"""Calls that can name nothing but what is one's own: they take neither a task, nor a thread, nor anything of others."""


def test_every_call_of_a_batch_has_a_row() -> None:
    names = {row.call for row in (*ON_THINGS, *BY_THREADS)} | OF_THE_OWN_TASK
    assert names == {"read", "write", *CALLS}
    for name in OF_THE_OWN_TASK:
        assert not {"pid", "tid", "vid", "sid"} & CALLS[name].args.model_fields.keys(), name
    for name, call in CALLS.items():
        assert ("tid" in call.args.model_fields) == any(row.call == name for row in BY_THREADS), name


async def result_of(world: World, caller: Caller, row: Made, **more: Any) -> dict[str, Any]:
    """What the call gives, alone in a batch of the caller's own task."""
    call = {"call": row.call, "args": world.body({**row.args, **more})}
    path = f"/v1/tasks/{world.callers.mine[caller]}/batch"
    answer = await world.callers.send(caller, "POST", path, {"calls": [call]})
    assert answer.status == 200, answer
    (result,) = answer.json["results"]
    whole = await world.callers.send(caller, "POST", f"{path}?atomic=true", {"calls": [call]})
    if "errno" in result:
        assert (whole.errno, whole.json["index"]) == (result["errno"], 0)
    return dict(result)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("row", ON_THINGS, ids=str)
async def test_a_call_inside_a_batch_needs_what_it_needs_alone(callers: Callers, row: Made) -> None:
    for mode in MODES if any(need.bits for need in row.needs) else MODES[:1]:
        refusals = {caller: refusal(caller, row.needs, mode) for caller in KNOWN}
        world = await World(callers, mode).make()
        before = await world.state()
        for caller, errno in refusals.items():
            if errno is not None:
                assert (await result_of(world, caller, row)).get("errno") == errno, (caller, oct(mode))
        assert await world.state() == before
        for caller, errno in refusals.items():
            if errno is None:
                assert "value" in await result_of(world, caller, row), (caller, oct(mode))
                await world.end()
                world = await World(callers, mode).make()
        await world.end()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("row", BY_THREADS, ids=str)
async def test_a_thread_of_another_task_is_no_thread_of_ones_own(callers: Callers, row: Made) -> None:
    world = await World(callers, 0o666).make()
    before = await world.state()
    for caller in KNOWN:
        for tid in (world.names["tid"], world.names["pid"]):
            result = await result_of(world, caller, row, tid=tid)
            assert result.get("errno") == "ESRCH", (caller, result)
        answer = await callers.send(
            caller, "POST", f"/v1/tasks/{callers.mine[caller]}/batch?tid={world.names['tid']}", {"calls": []}
        )
        assert answer.errno == "ESRCH"
    assert await world.state() == before
    await world.end()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_batch_that_is_refused_in_its_midst_kept_nothing_of_others(callers: Callers) -> None:
    """Atomic: what one may do is undone with what one may not."""
    world = await World(callers, 0o600).make()
    before = await world.state()
    calls = [
        {"call": "vas_create", "args": {"name": world.new(), "mode": 0o600}},
        {"call": "vas_clone", "args": {"vid": world.names["vid"], "name": world.new()}},
    ]
    path = f"/v1/tasks/{callers.mine[Caller.OTHER]}/batch?atomic=true"
    answer = await callers.send(Caller.OTHER, "POST", path, {"calls": calls})
    assert (answer.errno, answer.json["index"]) == ("EACCES", 1)
    assert SECRET not in answer.body
    assert await world.state() == before
    await world.end()


@pytest.mark.asyncio(loop_scope="module")
async def test_frames_name_no_thread_of_another_task_either(callers: Callers) -> None:
    """The framed form of a batch: the same calls, judged alike."""
    world = await World(callers, 0o600).make()
    before, tid = await world.state(), world.names["tid"]
    media = {"content-type": frames.MEDIA_FRAMES}
    foreign = [
        frames.WHOLE_LOAD.pack(frames.LOAD.size, frames.OF_LOAD, tid, BASE, 8),
        frames.WHOLE_STORE.pack(frames.STORE.size + 4, frames.OF_STORE, tid, BASE, 0) + b"evil",
        frames.call("read", {"addr": hex(BASE), "length": 8, "tid": tid}),
        frames.call("vas_attach", {"vid": world.names["vid"], "type": "ro"}),
        frames.call("vas_detach", {"vid": world.names["vid"], "pid": world.names["holder"]}),
    ]
    errnos = ["ESRCH", "ESRCH", "ESRCH", "EACCES", "EPERM"]
    for caller in (Caller.MEMBER, Caller.OTHER):
        path = f"/v1/tasks/{callers.mine[caller]}/batch"
        answer = await callers.send(
            caller, "POST", path, frames.document(len(foreign), foreign), headers=media
        )
        assert answer.status == 200
        told = [(kind, answer.body[start:end]) for kind, start, end in frames.frames_of(answer.body)]
        assert [kind for kind, _ in told] == [frames.REFUSAL] * len(foreign)
        assert [json.loads(payload)["errno"] for _, payload in told] == errnos
        for frame, errno in zip(foreign, errnos, strict=True):
            whole = await callers.send(
                caller, "POST", f"{path}?atomic=true", frames.document(1, [frame]), headers=media
            )
            assert whole.errno == errno
        own = f"/v1/tasks/{world.names['pid']}/batch"
        assert (
            await callers.send(caller, "POST", own, frames.document(0, []), headers=media)
        ).errno == "EPERM"
    assert await world.state() == before
    await world.end()
