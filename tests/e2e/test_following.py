"""Who follows events goes on over a service that is killed and started again; who waits for a lock waits past the timeout."""

import asyncio
import threading

import everspace
from tests.conformance.support.service import Service, until


def test_events_go_on_after_a_kill(service: Service) -> None:
    with (
        everspace.connect(service.url, service.root_token) as client,
        client.events("space.", "segment.") as events,
    ):
        first = client.spaces.create("first")
        event = next(events)
        assert (event.kind, event.vid, event.data["name"]) == ("space.created", first.vid, "first")
        found: list[everspace.Event] = []
        waiting = threading.Thread(target=lambda: found.extend(next(events) for _ in range(2)))
        waiting.start()
        service.kill()
        service.start(service.port)
        second = client.spaces.create("second")
        waiting.join(30)
        assert [(event.kind, event.vid) for event in found] == [("lost", None), ("space.created", second.vid)]
        assert found[0].data["since"] == event.id
        position = events.position
        second.rename("renamed")
        assert next(events).data["former_name"] == "second"
        with client.events(since=position) as again:
            assert next(again).kind == "space.changed"


async def test_events_async_end_with_their_client(service: Service) -> None:
    client = everspace.aconnect(service.url, service.root_token)
    async with client.events("space.deleted") as events:
        space = await client.spaces.create("space")
        await space.delete()
        assert (await anext(events)).vid == space.vid
        last = asyncio.create_task(anext(events, None))
        await asyncio.sleep(0)
        await client.close()
        assert await last is None


def test_a_lock_is_waited_for_past_the_timeout_of_http(service: Service) -> None:
    with (
        everspace.connect(service.url, service.root_token, timeout=0.5) as client,
        client.spawn() as holder,
        client.spawn() as waiter,
    ):
        space = client.spaces.create("lockable", sharing="lockable")
        space.attach(holder)
        space.attach(waiter)
        holder.vas_switch(space.vid)
        entered = threading.Event()

        def enter() -> None:
            waiter.vas_switch(space.vid)
            with waiter.batch() as batch:
                batch.vas_switch(0)
                batch.vas_switch(space.vid)
            entered.set()

        waiting = threading.Thread(target=enter)
        waiting.start()
        until("somebody waits", lambda: bool(space.locks() and space.locks()[0].waiters))
        assert not entered.wait(1.0)  # twice the timeout
        holder.vas_switch(0)
        waiting.join(30)
        assert entered.is_set()
        assert [user.pid for user in space.locks()[0].holders] == [waiter.pid]
        waiter.vas_switch(0)
