"""everspace vas."""

import json
from typing import Any


def test_a_space_from_its_making_to_its_end(cli: Any, fake: Any) -> None:
    assert cli("vas", "ls") == (0, "VID  MODE  UID  GID  SHARING  TASKS  KIND  NAME\n", "")
    assert cli("vas", "create", "größe 1", "--mode", "640") == (0, "1\n", "")
    assert cli("vas", "create", "other", "--sharing", "shared")[1] == "2\n"
    assert cli("vas", "find", "größe 1") == (0, "1\n", "")
    status, out, _ = cli("vas", "ls")
    assert (status, out.splitlines()) == (
        0,
        [
            "VID  MODE           UID  GID  SHARING    TASKS  KIND  NAME",
            "  1  640 rw-r-----    0    0  exclusive      0  -     größe 1",
            "  2  600 rw-------    0    0  shared         0  -     other",
        ],
    )
    assert cli("vas", "chmod", "0o666", "other") == (0, "space 2: 666 rw-rw-rw-\n", "")
    assert cli("vas", "chown", "5:6", "2") == (0, "space 2: 5:6\n", "")
    assert cli("vas", "chown", ":7", "name:other") == (0, "space 2: 5:7\n", "")
    assert cli("vas", "rm", "other") == (0, "deleted space 2\n", "")
    assert list(fake.spaces) == [1]


def test_the_same_as_json(cli: Any) -> None:
    made = json.loads(cli("vas", "create", "a", "--json")[1])
    assert made == {
        "id": 1, "name": "a", "mode": 0o600, "uid": 0, "gid": 0, "sharing": "exclusive", "attach_count": 0,
        "origin": 0, "snapshot": False, "lifetime": "persistent", "image": False,
    }  # fmt: skip
    assert json.loads(cli("--json", "vas", "ls")[1]) == [made]
    assert json.loads(cli("vas", "find", "a", "--json")[1]) == made
    assert json.loads(cli("vas", "chmod", "640", "a", "--json")[1])["mode"] == 0o640
    assert json.loads(cli("vas", "chown", "1", "a", "--json")[1])["uid"] == 1
    assert json.loads(cli("vas", "regions", "a", "--json")[1]) == []
    assert json.loads(cli("vas", "rm", "a", "--json")[1]) == {"id": 1}


def test_regions(cli: Any, fake: Any) -> None:
    cli("vas", "create", "a")
    region = {"start": "0x100000000000", "end": "0x100000001000", "prot": 3, "shared": False, "sid": None}
    window = {"start": "0x200000000000", "end": "0x200040000000", "prot": 1, "shared": True, "sid": 4}
    fake.spaces[1]["regions"] = [region, window]
    assert cli("vas", "regions", "1")[1].splitlines() == [
        "RANGE                          PERMS  SIZE  SHOWS",
        "0x100000000000-0x100000001000  rw-p     4K  -",
        "0x200000000000-0x200040000000  r--s     1G  segment 4",
    ]
    assert json.loads(cli("vas", "regions", "1", "--json")[1]) == [region, window]


def test_refusals_are_one_line_with_the_errno(cli: Any, fake: Any) -> None:
    cli("vas", "create", "a")
    fake.spaces[1]["attach_count"] = 1
    assert cli("vas", "rm", "1") == (1, "", "everspace: EBUSY: space 1 is attached (pid 7)\n")
    assert cli("vas", "create", "a") == (1, "", "everspace: EEXIST: the name 'a' is taken\n")
    assert cli("vas", "find", "none") == (1, "", "everspace: ESRCH: no space is named 'none'\n")
    assert cli("vas", "rm", "99") == (1, "", "everspace: EINVAL: no vas 99\n")
