"""The measurements run, at sizes too small to measure anything. Times are not looked at."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import clones, engine, gups, memory, peers
from benchmarks.pairs import Measure, compare
from engine.credentials import ROOT

PAGE = engine.PAGE


class Memory:
    """As much of an emulator as the benchmark uses."""

    def __init__(self, arch: int, mode: int) -> None:
        self.bytes = bytearray()

    def mem_map(self, address: int, size: int) -> None:
        self.bytes = bytearray(size)

    def mem_unmap(self, address: int, size: int) -> None:
        assert size == len(self.bytes)

    def mem_read(self, address: int, size: int) -> bytearray:
        return self.bytes[address - memory.ARENA :][:size]

    def mem_write(self, address: int, data: bytes) -> None:
        start = address - memory.ARENA
        self.bytes[start : start + len(data)] = data


EMULATOR: Any = SimpleNamespace(Uc=Memory, UC_ARCH_X86=4, UC_MODE_64=8)


@pytest.mark.parametrize(
    "make",
    [
        engine.switching,
        engine.creating,
        engine.spawning,
        lambda: engine.forking(4),
        lambda: engine.cloning(1, write=False, times=3),
        lambda: engine.cloning(1, write=True, times=3),
    ],
)
def test_each_measure_of_the_engine_can_be_repeated(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SWITCHES", "CREATES", "FORKS"):
        monkeypatch.setattr(engine, name, 4)
    measure: Measure = make()
    assert all(measure() > 0 for _ in range(2))


@pytest.mark.parametrize("space", [False, True])
def test_loads_and_stores_are_measured(space: bool) -> None:
    scene = memory.Scene(space=space, mapped=2 << 20)
    for measure in (
        scene.touching(3),
        scene.reading(PAGE, 2),
        scene.writing(2 * PAGE, 2),
        scene.storing(2 * PAGE, 2),
        memory.memcpy_from(PAGE, 2),
        memory.memcpy_to(PAGE, 2),
    ):
        assert all(measure() > 0 for _ in range(2))
    assert scene.machine.read(ROOT, scene.pid, scene.pid, memory.ARENA, 1) == b"\2"


def test_pairs_of_memory_run() -> None:
    for pair in (*memory.large_pairs(times=1), *memory.small_pairs(EMULATOR, times=1, pages=2)):
        assert compare(pair, rounds=1).ratio > 0


def test_the_peers_run(tmp_path: Path) -> None:
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        pytest.skip("no C compiler")
    program = peers.build(tmp_path)
    assert peers.run(program, "switch", 10) > 0
    assert peers.run(program, "fork", 1, 1) > 0
    assert peers.run(program, "fork", 1, 1, 1) > 0


def test_durable_clones_are_measured_and_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("GIGABYTE_PAGES", 600),
        ("MEBIBYTE_PAGES", 3),
        ("CLONES", 2),
        ("AT_ONCE", 256 * PAGE),
    ):
        monkeypatch.setattr(clones, name, value)
    with clones.pairs(tmp_path) as pairs:
        for pair in pairs:
            assert compare(pair, rounds=1).ratio > 0


@pytest.mark.parametrize("remapping", [False, True])
def test_updates_reach_the_tables_of_all_spaces(remapping: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TABLE_PAGES", 2), ("UPDATES", 3), ("VISITS", 40)):
        monkeypatch.setattr(gups, name, value)
    assert all(gups.visiting(4, remapping=remapping)() > 0 for _ in range(2))
