"""everspace task."""

import json
from typing import Any


def test_tasks(cli: Any, fake: Any) -> None:
    assert cli("task", "spawn", "--name", "worker", "--lease", "90") == (0, "1\n", "")
    assert cli("task", "spawn") == (0, "2\n", "")
    assert fake.tasks.keys() == {1, 2}, "they outlive the command"
    fake.tasks[1]["attachments"] = [
        {"vid": 3, "type": "rw", "lazy": True},
        {"vid": 4, "type": "ro", "lazy": False},
    ]
    assert cli("task", "ls")[1].splitlines() == [
        "PID  UID  LEASE  THREADS  ATTACHED   NAME",
        "  1    0    90s        1  3:rw,4:ro  worker",
        "  2    0    60s        1  -          -",
    ]
    assert cli("task", "rm", "1") == (0, "ended task 1\n", "")
    assert cli("task", "rm", "1") == (1, "", "everspace: ESRCH: no tasks 1\n")


def test_the_same_as_json(cli: Any, fake: Any) -> None:
    made = json.loads(cli("task", "spawn", "--name", "worker", "--json")[1])
    assert made == {
        "pid": 1, "tid": 1, "uid": 0, "gids": [0], "name": "worker", "lease_s": 60.0,
        "threads": [{"tid": 1, "active": 0}], "attachments": [], "counters": {},
    }  # fmt: skip
    fake.tasks[1]["attachments"] = [{"vid": 3, "type": "rw", "lazy": True}]
    assert json.loads(cli("task", "ls", "--json")[1])[0]["attachments"] == [
        {"vid": 3, "type": "rw", "lazy": True}
    ]
    assert json.loads(cli("task", "rm", "1", "--json")[1]) == {"pid": 1}


def test_fork_exec_limits_and_smaps(cli: Any, fake: Any) -> None:
    cli("task", "spawn")
    assert cli("task", "fork", "1") == (0, "2\n", "")
    assert json.loads(cli("task", "fork", "1", "--json")[1])["pid"] == 3
    assert cli("task", "exec", "1") == (0, "task 1 begins anew\n", "")
    assert json.loads(cli("task", "exec", "1", "--json")[1]) == {"pid": 1}
    values = [2**64 - 1, 1 << 30, 8 << 20, 5, 65530]
    fake.told["batch"] = {"results": [{"value": value} for value in values]}
    assert cli("task", "limits", "1")[1].splitlines() == [
        "address_space  unlimited",
        "data           1G",
        "stack          8M",
        "locked         5",
        "map_count      65530",
    ]
    assert json.loads(cli("task", "limits", "1", "--json")[1]) == {
        "address_space": None, "data": 1 << 30, "stack": 8 << 20, "locked": 5, "map_count": 65530,
    }  # fmt: skip
    fake.tasks[1]["smaps"] = "1000-2000 rw-p\nRss: 4 kB\n"
    assert cli("task", "smaps", "1") == (0, "1000-2000 rw-p\nRss: 4 kB\n", "")
    assert cli("task", "smaps", "1", "--tid", "1")[0] == 0
    assert json.loads(cli("task", "smaps", "1", "--json")[1])["smaps"].endswith("Rss: 4 kB\n")
    for verb in ("fork", "exec", "limits", "smaps"):
        assert cli("task", verb, "99") == (1, "", "everspace: ESRCH: no tasks 99\n")
