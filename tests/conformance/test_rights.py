"""Who may see the regions and the bytes of a space or segment: the mode's bits decide."""

from everspace import O_RDWR
from tests.conformance.support.rows import row
from tests.conformance.support.world import World


@row("RIGHT-REGIONS-1", "http")
def test_the_regions_of_a_space_need_its_read_bit(world: World) -> None:
    vid, _ = world.space_with_segment()
    path = f"/v1/vas/{vid}/regions"
    for mode, seen in ((0o640, "member"), (0o604, "other"), (0o400, "owner"), (0, "root")):
        world.owner.vas_setattr(vid, mode=mode)
        assert len(world.http(seen).get(path)["items"]) == 1
    world.owner.vas_setattr(vid, mode=0o222)
    for account in ("owner", "member", "other"):
        world.fails("EACCES", world.http(account).get, path)


@row("RIGHT-DATA-1", "http")
def test_the_bytes_of_a_segment_need_its_read_bit(world: World) -> None:
    sid = world.segment(0o222)
    path = f"/v1/segments/{sid}/data"
    for account in ("owner", "member", "other"):
        world.fails("EACCES", world.http(account).get, path)
    assert world.http("root").call("GET", path).body == bytes(4 * 4096)


@row("RIGHT-DATA-2", "http")
def test_storing_into_a_segment_needs_its_write_bit_only(world: World) -> None:
    _, sid = world.space_with_segment(O_RDWR, mode=0o600)
    path = f"/v1/segments/{sid}/data"
    place = {"Content-Range": "bytes 0-3/*"}
    world.owner.vas_seg_setattr(sid, mode=0o444)
    for account in ("owner", "member", "other"):
        world.fails("EACCES", world.http(account).call, "PATCH", path, raw=b"data", headers=place)
    world.owner.vas_seg_setattr(sid, mode=0o002)
    world.http("other").call("PATCH", path, raw=b"data", headers=place)
    assert world.http("root").call("GET", path).body[:4] == b"data"


@row("RIGHT-ERRORS-1", "http")
def test_unknown_spaces_and_segments_in_a_path_are_einval(world: World) -> None:
    http = world.http("owner")
    vid, sid, pid = world.space(), world.segment(), world.owner.pid
    for id in ("0", "-1", "2000000000", "99999999999999999999", "x", "1.0", "0x1", "+1"):
        for method, path, body in (
            ("GET", f"/vas/{id}", None), ("PATCH", f"/vas/{id}", {"mode": 0}), ("DELETE", f"/vas/{id}", None),
            ("GET", f"/vas/{id}/regions", None), ("GET", f"/vas/{id}/segments", None),
            ("GET", f"/segments/{id}", None), ("PATCH", f"/segments/{id}", {"mode": 0}),
            ("DELETE", f"/segments/{id}", None), ("GET", f"/segments/{id}/data", None),
            ("PUT", f"/vas/{id}/segments/{sid}", {"type": "rw"}), ("PUT", f"/vas/{vid}/segments/{id}", {"type": "rw"}),
            ("DELETE", f"/vas/{id}/segments/{sid}", None), ("DELETE", f"/vas/{vid}/segments/{id}", None),
            ("PUT", f"/tasks/{pid}/vas/{id}", {"type": "rw"}), ("DELETE", f"/tasks/{pid}/vas/{id}", None),
            ("GET", f"/sys/vas/{id}/name", None), ("GET", f"/sys/vas_segs/{id}/region", None),
        ):  # fmt: skip
            failure = world.refused(http.call, method, f"/v1{path}", body)
            assert failure.errno == "EINVAL", (method, path, failure)
    world.fails("EINVAL", http.get, "/v1/vas/2000000000")
