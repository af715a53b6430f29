"""Every public call of the SDK, made by everybody: the same rights, and a refusal changes nothing."""

import errno as errno_module
import inspect
from collections.abc import Iterator
from typing import Any

import pytest

import everspace
from everspace._gathered import Handle
from everspace.batch import Batch
from everspace.spaces import Space
from everspace.task import Task, Thread
from tests.rights.needs import KNOWN, STRANGERS, Caller, refusal
from tests.rights.sdk import CLASSES, OF_OTHERS, ROWS, WITHOUT_RIGHTS, Row, Scene
from tests.rights.world import World

MODES = (0o640, 0o406)
REFUSED = {"EPERM": everspace.NotPermittedError, "EACCES": everspace.AccessDeniedError}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with Scene(tmp_path_factory.mktemp("sdk") / "data") as made:
        yield made


def surface() -> set[str]:
    """Class and name of every public method."""
    return {
        f"{kind.__name__}.{name}"
        for kind in CLASSES
        for name, _ in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_every_public_call_has_a_row() -> None:
    shared = {name for name in dir(Thread) if not name.startswith("_")}
    named = {row.name for row in ROWS} | WITHOUT_RIGHTS | OF_OTHERS.keys()
    named |= {f"Thread.{row.method}" for row in ROWS if row.of is Task and row.method in shared}
    named |= {f"Batch.{row.method}" for row in ROWS if row.of is Task}
    assert surface() - named == set()
    assert named - surface() <= {f"Batch.{row.method}" for row in ROWS if row.of is Task}


def refused(scene: Scene, world: World, row: Row, caller: Caller, errno: str) -> None:
    with pytest.raises(REFUSED[errno]) as caught:
        row.call(scene, world, caller)
    assert caught.value.errno == getattr(errno_module, errno)
    assert isinstance(caught.value, PermissionError)


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_call_lets_those_in_that_it_is_for(scene: Scene, row: Row) -> None:
    for mode in MODES if any(need.bits for need in row.needs) else MODES[:1]:
        with scene.world(mode) as world:
            before = scene.wait(world.state())
            for caller in KNOWN:
                errno = refusal(caller, row.needs, mode)
                if errno is not None:
                    refused(scene, world, row, caller, errno)
            if row.on != "mine":  # nobody has no task of his own
                for caller in STRANGERS:
                    with pytest.raises(everspace.AuthenticationError):
                        row.call(scene, world, caller)
            assert scene.wait(world.state()) == before
            allowed = [caller for caller in reversed(KNOWN) if refusal(caller, row.needs, mode) is None]
            row.call(scene, world, allowed[0])


@pytest.mark.parametrize("atomic", [False, True])
def test_a_batch_for_a_task_of_others_is_refused_as_a_whole(scene: Scene, atomic: bool) -> None:
    with scene.world(0o666) as world:
        before = scene.wait(world.state())
        for caller in (Caller.MEMBER, Caller.OTHER):
            foreign = scene.clients[caller].task(world.names["pid"])
            with pytest.raises(everspace.NotPermittedError), foreign.batch(atomic=atomic) as batch:
                handles: list[Handle[Any]] = [
                    batch.read(0x401000, 8),
                    batch.vas_create(world.new(), 0o600),
                    batch.brk(),
                ]
            for handle in handles:
                with pytest.raises(everspace.NotPermittedError):
                    handle.result()
        assert scene.wait(world.state()) == before


BATCHED = [row for row in ROWS if row.of is Task and row.on == "mine" and hasattr(Batch, row.method)]


@pytest.mark.parametrize("row", BATCHED, ids=str)
def test_a_call_in_a_batch_of_ones_own_is_refused_alike(scene: Scene, row: Row) -> None:
    with scene.world(0o600) as world:
        before = scene.wait(world.state())
        for caller in (Caller.MEMBER, Caller.OTHER):
            errno = refusal(caller, row.needs, 0o600)
            if errno is not None:
                args = [row._value(arg, world) for arg in row.args]
                named = {name: row._value(arg, world) for name, arg in row.named.items()}
                with scene.mine[caller].batch() as batch:
                    handle = getattr(batch, row.method)(*args, **named)
                with pytest.raises(REFUSED[errno]):
                    handle.result()
        assert scene.wait(world.state()) == before


def test_attaching_as_an_object_asks_for_the_same_rights(scene: Scene) -> None:
    with scene.world(0o640) as world:
        space = Space(
            scene.clients[Caller.OTHER], scene.clients[Caller.ROOT].spaces.get(world.names["loose"]).seen
        )
        with pytest.raises(everspace.AccessDeniedError):
            space.attach(scene.mine[Caller.OTHER], "ro")
        with pytest.raises(everspace.NotPermittedError):
            space.attach(scene.clients[Caller.OTHER].task(world.names["plain"]), "ro")
