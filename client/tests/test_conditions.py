"""Tags of attributes and roots, and calls that are refused when those have changed."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import everspace
from everspace import errors
from everspace.testing import AsyncHandlerTransport, HandlerTransport, json_response, problem_response
from everspace.transport import Request, Response

SPACE = {"id": 3, "name": "lab", "mode": 384, "uid": 0, "gid": 0, "sharing": "exclusive", "attach_count": 0}
SEGMENT = {**SPACE, "start": "0x100000000000", "end": "0x100000002000", "size": 8192}
TAG, OLD = '"now"', '"old"'


def service(request: Request) -> Response:
    """One space and one segment, whose tag is TAG; what names another one is ESTALE."""
    headers, path = dict(request.headers), request.target.removeprefix("/v1/").partition("?")[0]
    told = headers.get("If-Match")
    if told not in (None, TAG) or "If-None-Match" in headers:
        return problem_response("ESTALE", "it has changed since", etag=TAG)
    if request.method in ("GET", "POST"):
        body = {"addr": "0x1000"} if "roots" in path else SPACE if path.startswith("vas") else SEGMENT
        if path in ("vas", "segments") and request.method == "GET":
            return json_response({"items": [body], "next": None}, headers={"etag": '"list"'})
        return json_response(body, 201 if request.method == "POST" else 200, headers={"etag": TAG})
    return Response(204)


CHANGES: dict[str, Callable[[Any, str | None], Any]] = {
    "chmod": lambda it, tag: it.chmod(0o640, if_match=tag),
    "chown": lambda it, tag: it.chown(uid=7, if_match=tag),
    "set_sharing": lambda it, tag: it.set_sharing("shared", if_match=tag),
    "set_lifetime": lambda it, tag: it.set_lifetime("transient", if_match=tag),
    "rename": lambda it, tag: it.rename("other", if_match=tag),
    "delete": lambda it, tag: it.delete(if_match=tag),
}
OF_ROOTS: dict[str, Callable[[Any, str | None], Any]] = {
    "set_root": lambda it, tag: it.set_root("r", 4096, if_match=tag),
    "delete_root": lambda it, tag: it.delete_root("r", if_match=tag),
}


@pytest.mark.parametrize("change", [*CHANGES, *OF_ROOTS])
@pytest.mark.parametrize("noun", ["spaces", "segments"])
def test_a_change_may_depend_on_the_tag(change: str, noun: str) -> None:
    if change in OF_ROOTS and noun == "segments":
        return
    make = (CHANGES | OF_ROOTS)[change]
    transport = HandlerTransport(service)
    with everspace.connect(transport=transport) as client:
        thing = getattr(client, noun).get(3)
        make(thing, thing.seen.etag)
        make(thing, None)
        with pytest.raises(errors.StaleError) as caught:
            make(thing, OLD)
        assert caught.value.etag == TAG
    told = [dict(request.headers).get("If-Match") for request in transport.requests]
    assert told == [None, TAG, None, OLD]
    assert [request.repeatable for request in transport.requests[1:]] == [
        False,
        not change.startswith("delete"),
        False,
    ], "asked again it would be refused for what it did itself"

    async def twin() -> None:
        async with everspace.aconnect(transport=AsyncHandlerTransport(service)) as client:
            thing = await getattr(client, noun).get(3)
            await make(thing, thing.seen.etag)
            with pytest.raises(errors.StaleError):
                await make(thing, OLD)

    asyncio.run(twin())


def test_a_root_may_be_created_only() -> None:
    transport = HandlerTransport(service)
    with everspace.connect(transport=transport) as client:
        space = client.spaces.get(3)
        with pytest.raises(errors.StaleError):
            space.set_root("r", 4096, create_only=True)
        assert dict(transport.requests[-1].headers)["If-None-Match"] == "*"
        assert space.root_etag("r") == TAG


def test_attributes_know_their_tag_unless_they_came_in_a_list() -> None:
    with everspace.connect(transport=HandlerTransport(service)) as client:
        kept: list[everspace.Space | everspace.Segment] = [
            client.spaces.create("n"),
            client.spaces.get(3).clone("n"),
            client.segments.get(3),
            client.segments.get(3).snapshot("n"),
        ]
        for made in kept:
            assert made.seen.etag == TAG
            assert made.attr().etag == TAG
        listed: list[everspace.Space | everspace.Segment] = [
            *client.spaces.list(),
            client.spaces.find("lab"),
            *client.segments.list(),
        ]
        assert [thing.seen.etag for thing in listed] == ["", "", ""]
        assert listed[0].seen == client.spaces.get(3).seen, "the tag is no part of what they are"


@pytest.mark.parametrize("tag", ["", "a\r\nX: y", "é"])
def test_what_is_no_tag_is_a_value_error(tag: str) -> None:
    with everspace.connect(transport=HandlerTransport(service)) as client:
        space = client.spaces.get(3)
        with pytest.raises(ValueError, match="ETag"):
            space.chmod(0, if_match=tag)
