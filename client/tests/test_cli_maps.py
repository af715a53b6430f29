"""everspace maps."""

import json
from typing import Any

TEXT = (
    "00400000-00401000 r-xp 00000000 00:00 0                          [text]\n"
    "100000000000-100000001000 rw-s 00001000 00:00 0 \n"
)


def test_maps_are_printed_as_they_are(cli: Any, fake: Any) -> None:
    cli("task", "spawn")
    fake.tasks[1]["maps"] = TEXT
    assert cli("maps", "1") == (0, TEXT, "")
    assert json.loads(cli("maps", "1", "--json")[1]) == [
        {"start": "0x00400000", "end": "0x00401000", "perms": "r-xp", "offset": "0x00000000", "device": "00:00",
         "inode": "0", "name": "[text]"},
        {"start": "0x100000000000", "end": "0x100000001000", "perms": "rw-s", "offset": "0x00001000",
         "device": "00:00", "inode": "0", "name": ""},
    ]  # fmt: skip
    cli("maps", "1", "--tid", "5")
    assert fake.requests[-1].target == "/v1/proc/1/maps?tid=5"
    assert cli("maps", "9") == (1, "", "everspace: ESRCH: no tasks 9\n")
