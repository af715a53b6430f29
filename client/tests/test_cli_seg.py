"""everspace seg, without transfers."""

import json
from typing import Any


def test_a_segment_from_its_making_to_its_end(cli: Any, fake: Any) -> None:
    assert cli("seg", "create", "heap", "0x100000000000", "+1M", "--mode", "660") == (0, "1\n", "")
    assert cli("seg", "create", "log", "17592186044416", "0x100000001800")[1] == "2\n"
    assert cli("seg", "find", "log") == (0, "2\n", "")
    assert cli("seg", "ls")[1].splitlines() == [
        "SID  MODE           UID  GID  SHARING    SPACES  RANGE                          SIZE  KIND  NAME",
        "  1  660 rw-rw----    0    0  exclusive       0  0x100000000000-0x100000100000    1M  -     heap",
        "  2  600 rw-------    0    0  exclusive       0  0x100000000000-0x100000001800    6K  -     log",
    ]
    assert cli("seg", "chmod", "600", "heap") == (0, "segment 1: 600 rw-------\n", "")
    assert cli("seg", "chown", "3", "heap") == (0, "segment 1: 3:0\n", "")
    cli("vas", "create", "lab")
    assert cli("seg", "attach", "heap", "lab", "--type", "ro") == (0, "segment 1 is in space 1 (ro)\n", "")
    assert (fake.requests[-1].target, bytes(fake.requests[-1].body)) == (
        "/v1/vas/1/segments/1",
        b'{"type": "ro"}',
    )
    assert cli("seg", "detach", "1", "1") == (0, "segment 1 is no longer in space 1\n", "")
    assert cli("seg", "rm", "heap") == (0, "deleted segment 1\n", "")


def test_the_same_as_json(cli: Any) -> None:
    made = json.loads(cli("seg", "create", "heap", "0x100000000000", "+1M", "--json")[1])
    assert made == {
        "id": 1, "name": "heap", "mode": 0o600, "uid": 0, "gid": 0, "sharing": "exclusive", "attach_count": 0,
        "start": "0x100000000000", "end": "0x100000100000", "size": 1 << 20, "origin": 0, "snapshot": False,
        "lifetime": "persistent",
    }  # fmt: skip
    assert json.loads(cli("seg", "ls", "--json")[1]) == [made]
    assert json.loads(cli("seg", "find", "heap", "--json")[1]) == made
    cli("vas", "create", "lab")
    assert json.loads(cli("seg", "attach", "1", "1", "--json")[1]) == {"sid": 1, "vid": 1, "type": "rw"}
    assert json.loads(cli("seg", "detach", "1", "1", "--json")[1]) == {"sid": 1, "vid": 1}
    assert json.loads(cli("seg", "chmod", "0", "1", "--json")[1])["mode"] == 0
    assert json.loads(cli("seg", "chown", "1:1", "1", "--json")[1])["gid"] == 1
    assert json.loads(cli("seg", "rm", "1", "--json")[1]) == {"id": 1}


def test_a_type_that_is_none(cli: Any) -> None:
    status, out, err = cli("seg", "attach", "1", "1", "--type", "rx")
    assert (status, out, err) == (2, "", "everspace: invalid value for --type: 'rx' is not ro, wo or rw\n")
