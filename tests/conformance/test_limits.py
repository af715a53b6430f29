"""The limit of 65535 attachments, in the engine alone and with a small limit: over HTTP it would take minutes."""

import sys

import pytest

import engine.constants
from engine.credentials import ROOT
from engine.errors import EngineError
from engine.geometry import GEOMETRIES
from engine.machine import Machine

SMALL = 5
O_RDONLY = 0
BASE = 0x1000_0000_0000


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine whose every module knows the small limit in place of the real one."""
    for name, module in list(sys.modules.items()):
        if name.startswith("engine.") and hasattr(module, "SHARES_MAX"):
            monkeypatch.setattr(module, "SHARES_MAX", SMALL)
    return Machine(GEOMETRIES["x86_64"], frames=1 << 12)


def test_the_limit_is_that_of_the_source() -> None:
    assert engine.constants.SHARES_MAX == 65_535


def test_a_space_has_no_more_attachments_than_the_limit(machine: Machine) -> None:
    with machine.transaction() as txn:
        vid = machine.vas_create(ROOT, "full", 0o600, "shared")
        pids = [machine.spawn(ROOT, None, 60.0).pid for _ in range(SMALL + 1)]
        for pid in pids[:-1]:
            machine.vas_attach(ROOT, pid, vid, O_RDONLY)
    txn.settle()
    with pytest.raises(EngineError) as raised, machine.transaction():
        machine.vas_attach(ROOT, pids[-1], vid, O_RDONLY)
    assert raised.value.errno == "EBUSY"
    assert machine.vas_getattr(ROOT, vid).attach_count == SMALL
    with machine.transaction() as txn:
        machine.vas_attach(ROOT, pids[0], vid, O_RDONLY)
        machine.exit(ROOT, pids[0])
        machine.vas_attach(ROOT, pids[-1], vid, O_RDONLY)
    txn.settle()


def test_a_segment_has_no_more_attachments_than_the_limit(machine: Machine) -> None:
    with machine.transaction() as txn:
        sid = machine.vas_seg_create(ROOT, "full", BASE, BASE + 4096, 0o600, "shared")
        vids = [machine.vas_create(ROOT, f"space {number}", 0o600) for number in range(SMALL + 1)]
        for vid in vids[:-1]:
            machine.vas_seg_attach(ROOT, vid, sid, O_RDONLY)
    txn.settle()
    with pytest.raises(EngineError) as raised, machine.transaction():
        machine.vas_seg_attach(ROOT, vids[-1], sid, O_RDONLY)
    assert raised.value.errno == "EBUSY"
    assert machine.vas_seg_getattr(ROOT, sid).attach_count == SMALL
