"""The command line tool against a real service: what it prints, as tables and as JSON, its exit statuses, its errors."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.support.service import EVERSPACE, Service, environment, free_port, run, until

PAGE = 4096
BASE = 0x1000_0000_0000


class Tool:
    """`everspace` with one account's token."""

    def __init__(self, url: str, token: str) -> None:
        self.env = {"EVERSPACE_URL": url, "EVERSPACE_TOKEN": token, "COLUMNS": "200"}

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        return run([EVERSPACE, *args], env=self.env)

    def out(self, *args: str) -> str:
        """Standard output of a command that succeeds and is silent on standard error."""
        done = self.run(*args)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def json(self, *args: str) -> Any:
        return json.loads(self.out(*args, "--json"))

    def refused(self, code: int, *args: str) -> str:
        """The one line on standard error of a command that fails."""
        done = self.run(*args)
        assert done.returncode == code, done
        assert done.stdout == "", done
        assert done.stderr.count("\n") == 1, done
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture
def tool(service: Service) -> Tool:
    return Tool(service.url, service.root_token)


def test_spaces_on_the_command_line(tool: Tool) -> None:
    vid = int(tool.out("vas", "create", "lab/ü", "--mode", "640"))
    assert tool.out("vas", "find", "lab/ü") == f"{vid}\n"
    table = tool.out("vas", "ls")
    assert "lab/ü" in table
    assert "640" in table
    (listed,) = tool.json("vas", "ls")
    assert (listed["id"], listed["name"], listed["mode"], listed["uid"]) == (vid, "lab/ü", 0o640, 0)
    tool.out("vas", "chmod", "604", "lab/ü")
    tool.out("vas", "chown", "7:8", str(vid))
    (listed,) = tool.json("vas", "ls")
    assert (listed["mode"], listed["uid"], listed["gid"]) == (0o604, 7, 8)
    tool.out("vas", "rm", "lab/ü")
    assert tool.json("vas", "ls") == []


def test_segments_on_the_command_line(tool: Tool) -> None:
    sid = int(tool.out("seg", "create", "heap", hex(BASE), "+16K", "--mode", "600", "--sharing", "shared"))
    assert tool.out("seg", "find", "heap") == f"{sid}\n"
    (listed,) = tool.json("seg", "ls")
    assert (listed["start"], listed["end"], listed["size"]) == (hex(BASE), hex(BASE + 4 * PAGE), 4 * PAGE)
    assert listed["sharing"] == "shared"
    assert "100000000000" in tool.out("seg", "ls")
    tool.out("vas", "create", "lab")
    tool.out("seg", "attach", "heap", "lab", "--type", "ro")
    (region,) = tool.json("vas", "regions", "lab")
    assert (region["start"], region["sid"], region["prot"]) == (hex(BASE), sid, 1)
    assert "r--" in tool.out("vas", "regions", "lab")
    assert tool.refused(1, "seg", "rm", "heap").startswith("everspace: EBUSY: ")
    tool.out("seg", "detach", "heap", "lab")
    tool.out("seg", "rm", "heap")
    assert tool.json("seg", "ls") == []


def test_files_go_in_and_come_out(tool: Tool, tmp_path: Path) -> None:
    content = bytes(range(256)) * 40 + bytes(3 * PAGE) + b"the end"
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(content)
    tool.out("seg", "import", str(source), "file", "--at", hex(BASE))
    (listed,) = tool.json("seg", "ls")
    assert (listed["start"], listed["size"]) == (hex(BASE), -(-len(content) // PAGE) * PAGE)
    tool.out("seg", "export", "file", str(target))
    assert target.read_bytes() == content + bytes(listed["size"] - len(content))
    piped = subprocess.run(
        [EVERSPACE, "seg", "export", "file", "-"], capture_output=True, env=environment(tool.env), check=True
    )
    assert piped.stdout == target.read_bytes()
    source.write_bytes(b"other bytes")
    tool.out("seg", "import", str(source), "file")
    tool.out("seg", "export", "file", str(target))
    assert target.read_bytes()[:11] == b"other bytes"
    assert tool.refused(1, "seg", "import", str(tmp_path / "none"), "file")
    assert tool.refused(1, "seg", "export", "none", str(tmp_path / "no"))
    assert not (tmp_path / "no").exists()


def test_a_file_that_came_in_is_there_after_a_kill(service: Service, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(b"kept" * 5000)
    Tool(service.url, service.root_token).out("seg", "import", str(source), "file", "--at", hex(BASE))
    service.kill()
    service.start()
    tool = Tool(service.url, service.root_token)
    tool.out("seg", "export", "file", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes()[:20000] == source.read_bytes()


def test_tasks_and_maps_on_the_command_line(tool: Tool, service: Service) -> None:
    pid = int(tool.out("task", "spawn", "--name", "worker", "--lease", "600"))
    (listed,) = tool.json("task", "ls")
    assert (listed["pid"], listed["name"], listed["lease_s"]) == (pid, "worker", 600)
    assert "worker" in tool.out("task", "ls")
    http = service.http()
    assert tool.out("maps", str(pid)) == http.call("GET", f"/v1/proc/{pid}/maps").text
    tool.out("task", "rm", str(pid))
    assert tool.json("task", "ls") == []
    assert tool.refused(1, "maps", str(pid)).startswith("everspace: ESRCH: ")


def test_bytes_on_the_command_line(tool: Tool, service: Service) -> None:
    tool.out("seg", "create", "heap", hex(BASE), "+4K")
    http = service.http()
    (segment,) = http.get("/v1/segments")["items"]
    place = {"Content-Range": "bytes 16-20/*"}
    http.call("PATCH", f"/v1/segments/{segment['id']}/data", raw=b"hello", headers=place)
    dump = tool.out("hexdump", "seg", "heap", "16", "--length", "16")
    assert "68 65 6c 6c 6f" in dump
    assert "hello" in dump
    assert "100000000010" in dump
    assert json.dumps(tool.json("hexdump", "seg", "heap", "16", "--length", "5"))
    pid = int(tool.out("task", "spawn"))
    assert tool.refused(1, "hexdump", "task", str(pid), hex(BASE)).startswith("everspace: EFAULT: ")


def test_refusals_are_one_line_with_the_errno(tool: Tool) -> None:
    tool.out("vas", "create", "lab")
    for errno, args in (
        ("EEXIST", ("vas", "create", "lab")), ("ESRCH", ("vas", "find", "none")), ("EINVAL", ("vas", "rm", "4711")),
        ("EINVAL", ("vas", "create", "a\nb")), ("EINVAL", ("seg", "create", "s", "0x1001", "+4K")),
        ("EFAULT", ("seg", "create", "s", "0x0", "+4K")), ("ESRCH", ("task", "rm", "4711")),
    ):  # fmt: skip
        assert tool.refused(1, *args).startswith(f"everspace: {errno}: "), args


def test_bad_usage_is_status_2(tool: Tool) -> None:
    for args in (
        ("conquer",), ("vas",), ("vas", "create"), ("vas", "chmod", "999", "lab"), ("vas", "chmod", "lab"), ("maps", "x"),
        ("seg", "create", "s", "nowhere", "+4K"), ("vas", "ls", "--nonsense"), ("vas", "create", "x", "--mode", "rwx"),
    ):  # fmt: skip
        assert "usage" not in tool.refused(2, *args).lower()


def test_a_service_that_is_not_there_is_status_3(tool: Tool) -> None:
    away = Tool(f"http://127.0.0.1:{free_port()}", "token")
    assert away.refused(3, "vas", "ls").startswith("everspace: ")


def test_an_unknown_token_is_status_1(tool: Tool, service: Service) -> None:
    assert Tool(service.url, "unknown").refused(1, "vas", "ls").startswith("everspace: ")


def test_rights_on_the_command_line(tool: Tool, service: Service) -> None:
    other = Tool(service.url, service.account(1003, 1003))
    tool.out("vas", "create", "private", "--mode", "600")
    assert other.refused(1, "vas", "rm", "private").startswith("everspace: EACCES: ")
    assert other.refused(1, "vas", "chmod", "666", "private").startswith("everspace: EPERM: ")
    assert other.refused(1, "vas", "regions", "private").startswith("everspace: EACCES: ")
    (listed,) = other.json("vas", "ls")
    assert listed["mode"] == 0o600


def test_a_task_made_on_the_command_line_ends_with_its_lease(tool: Tool) -> None:
    tool.out("task", "spawn", "--lease", "1")
    until("the lease ended", lambda: tool.json("task", "ls") == [], 30)
