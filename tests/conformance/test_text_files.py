"""The text files of /sys and /proc: byte for byte what the RFC prints, and a newline at the end."""

import re
from pathlib import Path

import psutil
import pytest

from everspace import MAP_ANONYMOUS, MAP_PRIVATE, O_RDONLY, O_RDWR, O_WRONLY, PROT_READ, PROT_WRITE
from tests.conformance.support.calls import PAGE
from tests.conformance.support.http import Answer
from tests.conformance.support.rows import row
from tests.conformance.support.world import ACCOUNTS, BASE, World

LINUX_MAPS = re.compile(
    r"([0-9a-f]{8,})-([0-9a-f]{8,}) [r-][w-][x-][sp] [0-9a-f]{8,} [0-9a-f]{2,}:[0-9a-f]{2,} \d+ (?: *(\S.*))?"
)
VAS_MAPS = re.compile(r"([0-9a-f]{8,})-([0-9a-f]{8,}) [r-][w-][x-][sp] \[[v-]:[a-]\] [0-9a-f]{8,}( +\S.*)?")
NO_PID = 2_000_000_000


def text(world: World, path: str, account: str = "other") -> str:
    """The file as an account without any right reads it."""
    answer: Answer = world.http(account).call("GET", f"/v1{path}", status=200)
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    return answer.text


@row("SYS-VAS-1", "http")
def test_the_files_of_a_space(world: World) -> None:
    name = world.name() + " ünïcode"
    vid = world.owner.vas_create(name, 0o640)
    uid, gids = ACCOUNTS["owner"]
    found = {file: text(world, f"/sys/vas/{vid}/{file}") for file in ("name", "mode", "user", "group")}
    assert found == {"name": f"{name}\n", "mode": "0640\n", "user": f"{uid}\n", "group": f"{gids[0]}\n"}


@row("SYS-SEG-1", "http")
def test_the_files_of_a_segment(world: World) -> None:
    name = world.name()
    sid = world.owner.vas_seg_create(name, BASE, BASE + 3 * PAGE, 0o604)
    uid, gids = ACCOUNTS["owner"]
    files = ("name", "mode", "user", "group", "region")
    found = {file: text(world, f"/sys/vas_segs/{sid}/{file}") for file in files}
    assert found == {
        "name": f"{name}\n",
        "mode": "0604\n",
        "user": f"{uid}\n",
        "group": f"{gids[0]}\n",
        "region": "100000000000-100000003000\n",
    }


@row("SYS-MODE-1", "http")
def test_the_mode_is_printed_as_c_does(world: World) -> None:
    """ "%#03o" of C: octal, a leading 0, at least three characters."""
    vid = world.space()
    for mode, printed in ((0, "000"), (0o6, "006"), (0o66, "066"), (0o666, "0666"), (0o400, "0400")):
        world.owner.vas_setattr(vid, mode=mode)
        assert text(world, f"/sys/vas/{vid}/mode") == f"{printed}\n"


@row("SYS-LIVE-1", "http")
def test_the_files_tell_the_present_owner(world: World) -> None:
    vid = world.space()
    world.root.vas_setattr(vid, uid=7, gid=8)
    assert (text(world, f"/sys/vas/{vid}/user"), text(world, f"/sys/vas/{vid}/group")) == ("7\n", "8\n")


@row("SYS-EINVAL-1", "http")
def test_there_are_no_files_of_unknown_objects_and_no_others(world: World) -> None:
    http = world.http("other")
    vid, sid = world.space(), world.segment()
    world.fails("EINVAL", http.call, "GET", "/v1/sys/vas/2000000000/name")
    world.fails("EINVAL", http.call, "GET", "/v1/sys/vas_segs/2000000000/name")
    for path in (f"/sys/vas/{vid}/region", f"/sys/vas/{vid}/none", f"/sys/vas_segs/{sid}/none", "/sys/none"):
        assert world.refused(http.call, "GET", f"/v1{path}").problem["status"] == 404


@row("SYS-WRITE-1", "http")
def test_the_files_are_not_written(world: World) -> None:
    vid = world.space()
    for method in ("PUT", "POST", "PATCH", "DELETE"):
        before = world.state()
        path = f"/v1/sys/vas/{vid}/mode"
        assert world.refused(world.http("root").call, method, path, raw=b"0666").problem["status"] == 405
        assert world.state() == before


@row("PROC-STATUS-1", "http")
def test_the_status_of_an_attachment(world: World) -> None:
    for type, word in ((O_RDONLY, "ro"), (O_WRONLY, "wo"), (O_RDWR, "rw")):
        vid = world.space()
        world.owner.vas_attach(0, vid, type)
        expected = f"pid:  {world.owner.pid}\nvid:  {vid}\ntype: {word}\n"
        assert text(world, f"/proc/{world.owner.pid}/vas/{vid}/status") == expected


@row("PROC-VAS-1", "http")
def test_the_directory_names_the_attached_spaces(world: World) -> None:
    path = f"/proc/{world.owner.pid}/vas"
    assert text(world, path, "owner").split() == []
    vids = [world.space() for _ in range(3)]
    for vid in reversed(vids):
        world.owner.vas_attach(0, vid, O_RDWR)
    assert text(world, path, "owner") == "".join(f"{vid}\n" for vid in vids)
    world.owner.vas_detach(0, vids[1])
    assert text(world, path, "owner") == f"{vids[0]}\n{vids[2]}\n"


@row("PROC-VAS-MAPS-1", "http")
def test_the_map_of_an_attachment(world: World) -> None:
    vid, _ = world.inside()
    at = world.owner.mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)
    world.owner.vas_switch(0)
    whole = text(world, f"/proc/{world.owner.pid}/vas/{vid}/maps", "owner")
    assert whole.endswith("\n")
    lines = whole.splitlines()
    matches = [VAS_MAPS.fullmatch(line) for line in lines]
    assert None not in matches, whole
    starts = [int(match[1], 16) for match in matches if match]
    assert starts == sorted(starts)
    assert {BASE, at} <= set(starts)
    assert any(line.endswith("[stack]") for line in lines)


@row("PROC-VAS-MAPS-2", "http")
def test_the_map_tells_lazy_from_eager(world: World) -> None:
    """`a`: the region's page table is there. With an eager attachment it is at once, with a lazy one when touched."""
    vid, _ = world.space_with_segment(sharing="shared")
    own = world.owner.mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)
    world.owner.write(own, b"touched")
    world.owner.vas_attach(0, vid, O_RDWR)
    path = f"/proc/{world.owner.pid}/vas/{vid}/maps"

    def flag() -> str:
        line = next(
            line for line in text(world, path, "owner").splitlines() if line.startswith(f"{own:08x}-")
        )
        return line.split("[")[1][2]

    assert flag() == "-"
    world.owner.vas_switch(vid)
    world.owner.read(own, 1)
    assert flag() == "a"
    world.owner.vas_switch(0)
    world.owner.vas_detach(0, vid)
    world.owner.vas_attach(0, vid, O_RDWR, lazy=False)
    assert flag() == "a"


@row("PROC-ENOENT-1", "http")
def test_there_is_no_directory_of_a_space_that_is_not_attached(world: World) -> None:
    http = world.http("owner")
    vid, pid = world.space(), world.owner.pid
    for file in ("status", "maps"):
        world.fails("ENOENT", http.call, "GET", f"/v1/proc/{pid}/vas/{vid}/{file}")
        world.fails("EINVAL", http.call, "GET", f"/v1/proc/{pid}/vas/x/{file}")
        failure = world.refused(http.call, "GET", f"/v1/proc/{pid}/vas/2000000000/{file}")
        assert failure.errno in ("EINVAL", "ENOENT")


@row("PROC-ESRCH-1", "http")
def test_there_are_no_files_of_an_unknown_task(world: World) -> None:
    http = world.http("root")
    for file in ("maps", "smaps", "status", "vas", "vas/1/status", "vas/1/maps"):
        world.fails("ESRCH", http.call, "GET", f"/v1/proc/{NO_PID}/{file}")
    assert world.refused(http.call, "GET", f"/v1/proc/{world.owner.pid}/none").problem["status"] == 404


@row("PROC-MAPS-1")
def test_maps_has_the_form_of_linux(world: World) -> None:
    world.inside()
    start = world.owner.brk()
    world.owner.brk(start + PAGE)
    whole = world.owner.maps()
    assert whole.endswith("\n")
    ends = 0
    for line in whole.splitlines():
        match = LINUX_MAPS.fullmatch(line)
        assert match, line
        assert int(match[1], 16) >= ends
        ends = int(match[2], 16)
        if match[3]:
            assert line.index(match[3]) == 73, "the path stands where Linux puts it"
    names = [line.split()[-1] for line in whole.splitlines()]
    assert "[heap]" in names
    assert "[stack]" in names


@row("PROC-MAPS-2", "http")
def test_maps_of_each_thread(world: World) -> None:
    world.inside()
    thread = world.owner.thread()
    path = f"/proc/{world.owner.pid}/maps"
    assert f"{BASE:x}-" in text(world, path, "owner")
    assert f"{BASE:x}-" in text(world, f"{path}?tid={world.owner.tid}", "owner")
    assert f"{BASE:x}-" not in text(world, f"{path}?tid={thread.tid}", "owner")
    world.fails("ESRCH", world.http("owner").call, "GET", f"/v1{path}?tid={NO_PID}")


@row("PROC-SMAPS-1", "http")
def test_smaps_has_the_form_of_linux(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """psutil reads the served files as those of a process; `stat`, which it asks for first, is not served."""
    world.inside()
    world.owner.write(BASE, b"x" * 3 * PAGE)
    own = world.owner.mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)
    pid = world.owner.pid
    place = tmp_path / str(pid)
    place.mkdir()
    for file in ("smaps", "status"):
        (place / file).write_text(text(world, f"/proc/{pid}/{file}", "owner"))
    (place / "stat").write_text(f"{pid} (task) S {' '.join(['0'] * 49)}\n")
    (tmp_path / "stat").write_text("btime 1700000000\n")
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    process = psutil.Process(pid)
    assert process.uids().real == ACCOUNTS["owner"][0]
    assert process.num_threads() == 1
    maps = {m.addr: m for m in process.memory_maps(grouped=False)}
    assert list(maps) == [line.split()[0] for line in world.owner.maps().splitlines()]
    segment = maps[f"{BASE:08x}-{BASE + 4 * PAGE:08x}"]
    assert (segment.path[:9], segment.size, segment.rss) == ("[segment:", 4 * PAGE, 3 * PAGE)
    assert next(m for addr, m in maps.items() if addr.startswith(f"{own:08x}-")).rss == 0
    thread = world.owner.thread()
    assert f"{BASE:08x}-" not in text(world, f"/proc/{pid}/smaps?tid={thread.tid}", "owner")
    world.fails("EPERM", world.http("other").call, "GET", f"/v1/proc/{pid}/smaps")


@row("PROC-STATUS-2", "http")
def test_the_status_of_a_task(world: World) -> None:
    uid, gids = ACCOUNTS["member"]
    whole = text(world, f"/proc/{world.member.pid}/status")
    assert whole.endswith("\n")
    fields = dict(line.split(":", 1) for line in whole.splitlines())
    assert fields["Pid"].strip() == str(world.member.pid)
    assert fields["Uid"].split()[0] == str(uid)
    assert set(fields["Groups"].split()) | set(fields["Gid"].split()) >= {str(gid) for gid in gids}
    assert fields["Threads"].strip() == "1"
