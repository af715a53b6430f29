"""everspace seg import and export."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from everspace.cli import transfer

MIB = 1 << 20


class Terminal(io.StringIO):
    """A standard error that a person watches."""

    def isatty(self) -> bool:
        return True


def test_import_makes_a_segment_as_large_as_the_file_and_skips_zeros(
    cli: Any, fake: Any, tmp_path: Path
) -> None:
    data = b"first".ljust(4 * MIB, b"\0") + bytes(8 * MIB) + b"last"
    (tmp_path / "file").write_bytes(data)
    status, out, err = cli(
        "seg", "import", str(tmp_path / "file"), "new", "--at", "0x100000000000", "--mode", "640"
    )
    assert (status, out, err) == (0, f"segment 1: {len(data)} imported\n", "")
    assert fake.segments[1]["mode"] == 0o640
    assert fake.bytes[1] == data.ljust(-(-len(data) // 4096) * 4096, b"\0")
    assert fake.writes == [(0, 4 * MIB), (12 * MIB, 4)]


def test_import_fills_a_segment_that_is_there_zeros_too(cli: Any, fake: Any, tmp_path: Path) -> None:
    cli("seg", "create", "old", "0x100000000000", "+8K")
    fake.bytes[1][:] = b"x" * 8192
    (tmp_path / "file").write_bytes(bytes(5000))
    status, out, _ = cli("seg", "import", str(tmp_path / "file"), "old", "--json")
    assert (status, json.loads(out)["bytes"]) == (0, 5000)
    assert fake.bytes[1] == bytes(5000) + b"x" * 3192


def test_import_from_standard_input(
    cli: Any, fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cli("seg", "create", "old", "0x100000000000", "+8M")
    data = bytes(range(256)) * 20_000
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert cli("seg", "import", "-", "old")[0] == 0
    assert fake.bytes[1][: len(data)] == data


def test_an_empty_file_makes_one_page(cli: Any, fake: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert cli("seg", "import", str(tmp_path / "file"), "new", "--at", "4096")[0] == 0
    assert fake.bytes[1] == bytes(4096)


def test_what_cannot_be_imported(cli: Any, fake: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(5000))
    name = str(tmp_path / "file")
    status, _, err = cli("seg", "import", name, "new")
    assert (status, err) == (
        2,
        "everspace: invalid value for SEGMENT: there is no segment 'new' yet: say with --at START where to make it\n",
    )
    cli("seg", "create", "small", "0x1000", "+4K")
    status, _, err = cli("seg", "import", name, "small")
    assert (status, err) == (
        2,
        f"everspace: invalid value for FILE: {name} has 5000 bytes, segment 1 only 4096\n",
    )
    status, _, err = cli("seg", "import", str(tmp_path / "none"), "small")
    assert (status, err) == (1, f"everspace: ENOENT: {tmp_path}/none: no such file or directory\n")
    assert fake.writes == []


def test_export_leaves_holes_for_zeros(cli: Any, fake: Any, tmp_path: Path) -> None:
    cli("seg", "create", "big", "0x100000000000", "+32M")
    fake.bytes[1][:5] = b"first"
    fake.bytes[1][9 * MIB : 9 * MIB + 4] = b"last"
    file = tmp_path / "file"
    assert cli("seg", "export", "big", str(file)) == (0, "segment 1: 32M exported\n", "")
    assert file.read_bytes() == bytes(fake.bytes[1])
    assert file.stat().st_blocks * 512 < 2 * MIB
    assert json.loads(cli("seg", "export", "1", str(file), "--json")[1]) == {"id": 1, "bytes": 32 * MIB}


def test_export_to_standard_output(cli: Any, fake: Any, capfdbinary: Any = None) -> None:
    cli("seg", "create", "small", "0x100000000000", "+4K")
    fake.bytes[1][:] = b"text" * 1024
    assert cli("seg", "export", "small", "-") == (0, "text" * 1024, "")


def test_a_long_transfer_shows_its_progress_to_a_person(
    cli: Any, fake: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cli("seg", "create", "big", "0x100000000000", "+32M")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    cli("seg", "export", "big", str(tmp_path / "file"))
    assert "export of segment 1" in terminal.getvalue()
    monkeypatch.setattr(transfer, "QUIET_BELOW", 1 << 40)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    cli("seg", "export", "big", str(tmp_path / "file"))
    assert terminal.getvalue() == ""
