"""Names of spaces and segments: 1 to 255 bytes of UTF-8 without NUL and control characters."""

from collections.abc import Callable

from tests.conformance.support.calls import PAGE
from tests.conformance.support.rows import row
from tests.conformance.support.world import BASE, World

MAX = 255
CONTROL = ("a\x01b", "a\nb", "\t", "\x1b[0m", "\x7f", "\x85", "a\x9f")


def creators(world: World) -> list[Callable[[str], int]]:
    """vas_create and vas_seg_create, each as a function of the name alone."""
    return [
        lambda name: world.owner.vas_create(name, 0o600),
        lambda name: world.owner.vas_seg_create(name, BASE, BASE + PAGE, 0o600),
    ]


def finders(world: World) -> list[Callable[[str], int]]:
    return [world.owner.vas_find, world.owner.vas_seg_find]


def refused_everywhere(world: World, name: str) -> None:
    for call in [*creators(world), *finders(world)]:
        world.fails("EINVAL", call, name)


def accepted_everywhere(world: World, name: str) -> None:
    for create, find in zip(creators(world), finders(world), strict=True):
        made = create(name)
        assert made > 0
        assert find(name) == made
    assert world.owner.vas_getattr(world.owner.vas_find(name)).name == name
    assert world.owner.vas_seg_getattr(world.owner.vas_seg_find(name)).name == name


@row("NAME-LONGEST-1")
def test_a_name_has_up_to_255_bytes(world: World) -> None:
    accepted_everywhere(world, "n" * MAX)


@row("NAME-EINVAL-LONG-1")
def test_a_name_of_256_bytes_is_refused(world: World) -> None:
    refused_everywhere(world, "n" * (MAX + 1))


@row("NAME-UTF8-1")
def test_bytes_are_counted_and_not_characters(world: World) -> None:
    accepted_everywhere(world, "é" * 127 + "n")
    refused_everywhere(world, "é" * 128)
    accepted_everywhere(world, "адрес 空间 🗺")


@row("NAME-EINVAL-UTF8-1")
def test_a_lone_surrogate_is_no_utf8(world: World) -> None:
    refused_everywhere(world, "a\ud800b")


@row("NAME-EINVAL-EMPTY-1")
def test_the_empty_name_is_refused(world: World) -> None:
    refused_everywhere(world, "")


@row("NAME-EINVAL-NUL-1")
def test_a_name_has_no_nul(world: World) -> None:
    refused_everywhere(world, "a\0b")
    refused_everywhere(world, "\0")


@row("NAME-EINVAL-CONTROL-1")
def test_a_name_has_no_control_character(world: World) -> None:
    for name in CONTROL:
        refused_everywhere(world, name)


@row("NAME-SLASH-1")
def test_a_slash_is_a_character_like_others(world: World) -> None:
    for name in ("/", "..", "/a//b/", "a b", "?&#%41=+", '"\\', "null"):
        accepted_everywhere(world, name)


@row("NAME-SPACES-1")
def test_spaces_and_segments_have_names_and_ids_of_their_own(world: World) -> None:
    name = world.name()
    vid = world.owner.vas_create(name, 0o600)
    sid = world.owner.vas_seg_create(name, BASE, BASE + PAGE, 0o600)
    assert world.owner.vas_find(name) == vid
    assert world.owner.vas_seg_find(name) == sid
    world.owner.vas_delete(vid)
    assert world.owner.vas_seg_find(name) == sid


@row("NAME-TASK-1")
def test_task_names_follow_the_same_rule(world: World) -> None:
    http = world.http("owner")
    for bad in ("", "n" * 256, "a\0", "a\n", "é" * 128):
        if world.way == "http":
            world.fails("EINVAL", http.call, "POST", "/v1/tasks", {"name": bad}, status=201)
        else:
            world.fails("EINVAL", world.site.clients["owner"].spawn, bad)
    made = http.call("POST", "/v1/tasks", {"name": "a/ü"}, status=201).json
    assert made["name"] == "a/ü"
    http.call("DELETE", f"/v1/tasks/{made['pid']}")
