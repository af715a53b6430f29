"""Geometry, ranges, rights, credentials: values without a machine."""

import pytest

from engine.access import ATTACH_RIGHTS, READ_WRITE, Access, attach_limit
from engine.address import VirtRange
from engine.constants import O_RDONLY, O_RDWR, O_WRONLY
from engine.credentials import ROOT, Credentials, Owner
from engine.errors import Collision, EngineError, PageFault, PagesNeeded
from engine.geometry import GEOMETRIES, TOY, Geometry
from engine.invariant import InvariantError, invariant
from engine.machine import Machine


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES.keys())
def test_a_geometry_leaves_the_arena_to_spaces(geometry: Geometry) -> None:
    heap = geometry.text_start + 3 * geometry.page_size
    assert geometry.user_start <= geometry.text_start < heap <= geometry.arena_start
    assert geometry.arena_start < geometry.arena_end < geometry.mmap_top
    assert geometry.mmap_top <= geometry.user_end - geometry.stack_size
    assert geometry.user_end <= 1 << (geometry.page_shift + sum(geometry.level_bits))
    assert geometry.page_size == 1 << geometry.page_shift


def test_x86_64_is_what_users_rely_on() -> None:
    geometry = GEOMETRIES["x86_64"]
    assert (geometry.user_start, geometry.user_end) == (0x10000, 0x7FFF_FFFF_F000)
    assert (geometry.arena_start, geometry.arena_end) == (0x1000_0000_0000, 0x7000_0000_0000)


@pytest.mark.parametrize(("length", "whole"), [(0, 0), (1, 16), (15, 16), (16, 16), (17, 32)])
def test_lengths_round_up_to_pages(length: int, whole: int) -> None:
    assert TOY.align_up(length) == whole
    assert TOY.is_aligned(length) is (length == whole)


@pytest.mark.parametrize(
    ("bounds", "complaint"),
    [
        ((0, 0x100, 0xC0, 0x40, 0, 0xE0, 0x10), "ascend"),
        ((0, 0x100, 0x41, 0xC0, 0, 0xE0, 0x10), "aligned"),
        ((0, 0x110, 0x40, 0xC0, 0, 0xE0, 0x10), "levels"),
    ],
)
def test_an_impossible_geometry_is_refused(bounds: tuple[int, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Geometry("bad", 4, (2, 2), *bounds, 0x20, 0x10)  # type: ignore[call-arg]


def test_a_range_is_half_open_and_never_empty() -> None:
    left, right = VirtRange(0x1000, 0x2000), VirtRange(0x2000, 0x3000)
    assert not left.overlaps(right)
    assert left.overlaps(VirtRange(0x1FFF, 0x2001))
    assert VirtRange(0, 0x4000).covers(left)
    assert not left.covers(right)
    assert (left.length, str(left)) == (0x1000, "00001000-00002000")
    for start, end in ((1, 1), (2, 1)):
        with pytest.raises(ValueError, match="empty or reversed"):
            VirtRange(start, end)


@pytest.mark.parametrize(
    ("bits", "shown"),
    [(0, "---"), (1, "r--"), (2, "-w-"), (3, "rw-"), (4, "--x"), (5, "r-x"), (6, "-wx"), (7, "rwx")],
)
def test_rights_print_as_ls_prints_them(bits: int, shown: str) -> None:
    assert str(Access(bits)) == repr(Access(bits)) == shown


def test_an_attach_type_needs_mode_bits_and_limits_rights() -> None:
    assert ATTACH_RIGHTS == {O_RDONLY: Access.READ, O_WRONLY: Access.WRITE, O_RDWR: READ_WRITE}
    assert [str(attach_limit(kind)) for kind in (O_RDONLY, O_WRONLY, O_RDWR)] == ["r-x", "rwx", "rwx"]


@pytest.mark.parametrize(
    ("uid", "gids", "rights"),
    [
        (1000, (5,), "rw-"),
        (1000, (100,), "rw-"),
        (1001, (100,), "r--"),
        (1001, (5, 100), "r--"),
        (1001, (5,), "-w-"),
        (0, (5,), "rw-"),
    ],
)
def test_the_first_class_that_matches_decides(uid: int, gids: tuple[int, ...], rights: str) -> None:
    owner = Owner(1000, 100, 0o642)
    assert str(owner.rights_of(Credentials(uid, gids))) == rights


def test_an_owner_may_have_fewer_rights_than_others() -> None:
    owner = Owner(1000, 100, 0o066)
    with pytest.raises(EngineError, match="EACCES: thing: mode 0o066 denies r-- to uid 1000"):
        owner.require(Credentials(1000, (100,)), Access.READ, "thing")
    owner.require(Credentials(1001, (100,)), READ_WRITE, "thing")
    owner.require(ROOT, READ_WRITE, "thing")


def test_errors_carry_what_a_program_needs() -> None:
    fault = PageFault(0x1234, "write", "no region")
    assert (fault.errno, fault.address, fault.partial) == ("EFAULT", 0x1234, False)
    assert str(fault) == "EFAULT: write fault at 0x1234: no region"
    clash = Collision("EEXIST", VirtRange(0x1000, 0x3000), VirtRange(0x2000, 0x4000), "task 7")
    assert clash.data["address"] == 0x2000
    assert str(clash) == "EEXIST: 00001000-00003000 collides with 00002000-00004000 of task 7"
    memory = Machine(TOY).objects.create()
    need = PagesNeeded(3, (4, 5), 1, memory)
    assert (need.object_id, need.pages, need.epoch, need.memory) == (3, [4, 5], 1, memory)
    assert need.widened([6]).pages == [6]
    assert not isinstance(need, EngineError)


def test_an_invariant_is_no_error_of_a_caller() -> None:
    invariant(True, "I5: holds")
    with pytest.raises(InvariantError, match=r"I5: broken \(frame=7\)"):
        invariant(False, "I5: broken", frame=7)
    assert not issubclass(InvariantError, EngineError)
