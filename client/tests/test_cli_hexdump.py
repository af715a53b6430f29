"""everspace hexdump."""

import json
from typing import Any

import pytest

from everspace.cli.hexdump import dump


def test_bytes_of_a_segment(cli: Any, fake: Any) -> None:
    cli("seg", "create", "s", "0x100000000000", "+4K")
    fake.bytes[1][:20] = b"Hello,\x00\xffworld\n0123456"
    assert cli("hexdump", "seg", "s", "--length", "48")[1].splitlines() == [
        "100000000000  48 65 6c 6c 6f 2c 00 ff  77 6f 72 6c 64 0a 30 31  |Hello,..world.01|",
        "100000000010  32 33 34 35 36 00 00 00  00 00 00 00 00 00 00 00  |23456...........|",
        "100000000020  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|",
        "100000000030",
    ]
    assert json.loads(cli("hexdump", "seg", "1", "0x6", "-n", "2", "--json")[1]) == {
        "addr": "0x100000000006", "length": 2, "hex": "00ff",
    }  # fmt: skip
    assert cli("hexdump", "seg", "1", "-n", "1K")[1].splitlines()[2:4] == [
        "100000000020  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|",
        "*",
    ]


def test_memory_of_a_task(cli: Any, fake: Any) -> None:
    cli("task", "spawn")
    fake.memory[1] = bytes(4096) + b"inside"
    assert cli("hexdump", "task", "1", "0x1000", "-n", "6")[1].splitlines() == [
        "00001000  69 6e 73 69 64 65                                 |inside|",
        "00001006",
    ]
    cli("hexdump", "task", "1", "4096", "--tid", "3")
    assert fake.requests[-1].target == "/v1/tasks/1/memory?addr=0x1000&len=256&tid=3"


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"a", ["00000000  61                                                |a|", "00000001"]),
        (b"x" * 33, [f"00000000  {'78 ' * 8} {'78 ' * 8} |{'x' * 16}|", "*",
                     "00000020  78                                                |x|", "00000021"]),
    ],
)  # fmt: skip
def test_it_looks_like_hexdumps(data: bytes, lines: list[str]) -> None:
    assert list(dump(0, data)) == lines
