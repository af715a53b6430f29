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
