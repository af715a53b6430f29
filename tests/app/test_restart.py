"""What a restart keeps, and what it does not."""

from pathlib import Path

from tests.app.support import BASE, PAGE, running


async def test_everything_acknowledged_is_there_again(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        pid, vid = await site.inside(8)
        sid = await site.segment("data", 4, BASE + 0x1000_0000)
        other = await site.space("other", 0o664)
        await site.ok("PUT", f"/vas/{other}/segments/{sid}", {"type": "ro"})
        await site.ok("PATCH", f"/vas/{other}", {"uid": 7, "gid": 8, "sharing": "shared"})
        await site.write(pid, BASE + 3 * PAGE - 3, b"across a page")
        await site.ok("POST", f"/tasks/{pid}/mprotect", {"addr": BASE + 6 * PAGE, "length": PAGE, "prot": 1})
        await site.ok("POST", f"/tasks/{pid}/munmap", {"addr": BASE + 4 * PAGE, "length": PAGE})
        await site.write(pid, BASE, b"relaxed", durability="relaxed")
        before = [
            await site.ok("GET", path)
            for path in (
                "/segments",
                f"/vas/{vid}/regions",
                f"/vas/{other}/regions",
                f"/vas/{other}/segments",
            )
        ]
        spaces = (await site.ok("GET", "/vas"))["items"]
        deleted = await site.space("gone")
        await site.ok("DELETE", f"/vas/{deleted}")
    async with running(tmp_path) as site:
        after = [
            await site.ok("GET", path)
            for path in (
                "/segments",
                f"/vas/{vid}/regions",
                f"/vas/{other}/regions",
                f"/vas/{other}/segments",
            )
        ]
        assert after == before
        assert (await site.ok("GET", "/vas"))["items"] == [{**item, "attach_count": 0} for item in spaces]
        assert (await site.ok("GET", "/tasks"))["items"] == []
        assert (await site.call("GET", f"/tasks/{pid}")).errno == "ESRCH"
        assert await site.space("new") > deleted
        pid = await site.task()
        await site.ok("PUT", f"/tasks/{pid}/vas/{vid}", {"type": "ro"})
        await site.ok("PUT", f"/tasks/{pid}/threads/{pid}/active", {"vid": vid})
        assert (await site.read(pid, BASE + 3 * PAGE - 3, 13)).body == b"across a page"
        assert (await site.read(pid, BASE, 7)).body == b"relaxed", "a clean stop writes back"
        assert (await site.read(pid, BASE + 4 * PAGE, 1)).errno == "EFAULT"


async def test_a_tag_of_an_earlier_start_never_matches(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        sid = await site.segment()
        path = f"/v1/segments/{sid}/data"
        tag = (await site.send("HEAD", path)).headers["etag"]
        assert (await site.send("GET", path, headers={"if-none-match": tag})).status == 304
    async with running(tmp_path) as site:
        assert (await site.send("GET", path, headers={"if-none-match": tag})).status == 200
        assert (await site.send("GET", path, headers={"if-match": tag})).errno == "ESTALE"


async def test_the_root_token_is_written_once_and_anew_when_lost(tmp_path: Path) -> None:
    file = tmp_path / "root.token"
    async with running(tmp_path):
        first = file.read_text()
        assert file.stat().st_mode & 0o777 == 0o600
    async with running(tmp_path) as site:
        assert file.read_text() == first
        assert (await site.call("GET", "/vas")).status == 200
    file.unlink()
    async with running(tmp_path) as site:
        assert file.read_text() != first
        assert (await site.call("GET", "/vas")).status == 200
        assert (await site.call("GET", "/vas", token=first.strip())).status == 200, (
            "still valid until revoked"
        )
