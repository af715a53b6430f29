"""Data directories that releases left behind, killed, and what the stores of those releases said they hold.

formats/make.py tells how they were made. There is one of today's format, too: what it takes to read it must not change.
"""

import json
import tarfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from engine.changes import BirthRecord, CloneObject, RegionRecord, SegmentRecord, SpaceRecord
from engine.geometry import X86_64
from storage import open_store
from storage.errors import FormatUnreadable
from storage.lmdb.store import LmdbStore
from storage.rows.format import VERSION
from storage.sql.accounts import AccountStore
from storage.upkeep.backup import back_up
from storage.upkeep.fsck import check_dir
from storage.upkeep.migration import migrate
from storage.upkeep.restoring import restore

FORMATS = range(1, VERSION + 1)
ALL = 1 << 40
"""More pages than any object has."""


@dataclass(frozen=True)
class Left:
    """What an old release left, and what it said of it."""

    format: int
    data: Path
    said: dict[str, Any]


@pytest.fixture(params=FORMATS, ids=lambda version: f"format-{version}")
def left(request: pytest.FixtureRequest, tmp_path: Path) -> Left:
    version: int = request.param
    with tarfile.open(Path(__file__).with_name("formats") / f"format-{version}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    said = json.loads((tmp_path / "expected.json").read_text())
    assert said["format"] == version
    return Left(version, tmp_path / "data", said)


def tuples(value: Any) -> Any:
    """JSON has no tuples."""
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def verify(store: LmdbStore, said: dict[str, Any]) -> None:
    """The store holds what the old release said."""
    image = store.load()
    assert image.spaces == [SpaceRecord(*tuples(record)) for record in said["spaces"]]
    assert image.segments == [SegmentRecord(*tuples(record)) for record in said["segments"]]
    assert image.regions == {
        int(vid): [RegionRecord(*tuples(region)) for region in regions]
        for vid, regions in said["regions"].items()
    }
    assert image.births == {
        int(vid): BirthRecord(tuple(RegionRecord(*region) for region in tuples(regions)), tuples(roots))
        for vid, (regions, roots) in said.get("births", {}).items()
    }
    assert image.roots == {int(vid): roots for vid, roots in said.get("roots", {}).items()}
    assert image.unowned == said.get("unowned", [])
    counters = [said[name] for name in ("next_vid", "next_sid", "next_object")]
    assert [image.next_vid, image.next_sid, image.next_object] == counters
    receipts = {key.hex(): value.hex() for key, value in image.receipts.items()}
    assert receipts == said.get("receipts", {})
    assert pages_of(store, image.next_object) == said["pages"]


def pages_of(store: LmdbStore, end: int) -> dict[str, dict[str, str]]:
    """A checksum of each page of each object below `end`."""
    found = {
        str(number): {
            str(page): sha256(content).hexdigest()[:16]
            for page, content in sorted(store.fetch(number, store.stored_pages(number, 0, ALL)).items())
        }
        for number in range(1, end)
    }
    return {number: pages for number, pages in found.items() if pages}


@pytest.mark.parametrize("left", FORMATS[:-1], indirect=True)
def test_is_refused_until_it_is_migrated(left: Left) -> None:
    before = (left.data / "store.lmdb").read_bytes()
    text = f"format version {left.format}: .*'everspaced migrate {left.data}'"
    with pytest.raises(FormatUnreadable, match=text):
        open_store(left.data, X86_64)
    with pytest.raises(FormatUnreadable, match=text):
        list(check_dir(left.data))
    with pytest.raises(FormatUnreadable, match=text):
        back_up(left.data, left.data.parent / "backup")
    assert (left.data / "store.lmdb").read_bytes() == before
    assert not (left.data.parent / "backup").exists()


def test_holds_after_migration_what_it_held(left: Left) -> None:
    assert left.said["pages"]
    assert migrate(left.data) == (left.format < VERSION)
    assert not migrate(left.data)
    assert list(check_dir(left.data)) == []
    store = open_store(left.data, X86_64)
    verify(store, left.said)
    while store.maintain():
        pass
    verify(store, left.said)
    store.close()
    assert list(check_dir(left.data)) == []


def test_can_be_worked_with_backed_up_and_restored(left: Left) -> None:
    migrate(left.data)
    back_up(left.data, left.data.parent / "backup")
    restore(left.data.parent / "backup", left.data.parent / "restored")
    store = open_store(left.data.parent / "restored", X86_64)
    verify(store, left.said)
    source = left.said["segments"][-1][8]
    store.commit([[CloneObject(source, left.said["next_object"])]])
    pages = pages_of(store, left.said["next_object"] + 1)
    assert pages[str(left.said["next_object"])] == left.said["pages"][str(source)]
    store.close()


def test_its_accounts_go_on(left: Left) -> None:
    accounts = AccountStore.in_directory(left.data)
    accounts.migrate()
    found = [(account.uid, account.gids, account.name) for account in accounts.list_accounts()]
    assert found == [(0, (0,), "root"), (1000, (100,), "ada")]
    token = accounts.create_token(1000)
    grant = accounts.authenticate(token)
    assert grant is not None
    assert grant.account.uid == 1000
    accounts.close()
