"""Clients that store until the service dies, each remembering what was acknowledged and what was under way.

A writer owns one segment and a family of names, so that after a crash exactly its last, unanswered request may be
there or not, wholly; everything answered before must be there.
"""

import http.client
import random
from dataclasses import dataclass, field

import everspace
from tests.conformance.support.calls import PAGE, HttpTask, b64
from tests.conformance.support.http import Problem
from tests.conformance.support.service import Service

BASE = 0x3000_0000_0000
PAGES = 64
SYNCED = 4
"""The first pages of a segment are written relaxed, all with one generation number, and then synced."""


@dataclass
class Model:
    """What the service has said is there."""

    data: bytearray = field(default_factory=lambda: bytearray(PAGES * PAGE))
    names: dict[str, int] = field(default_factory=dict)
    generations: frozenset[int] = frozenset({0})


class Writer:
    """One client with a segment of its own."""

    def __init__(self, number: int, durability: str = "commit") -> None:
        self.durability = durability
        self.number = number
        self.start = BASE + number * 1024 * PAGE
        self.sure = Model()
        self.maybe: Model | None = None
        self.acknowledged = 0

    def prepare(self, service: Service) -> None:
        """Make the space and the segment, once."""
        task = HttpTask.spawn(service.http())
        vid = task.vas_create(f"writer {self.number}", 0o600, "shared")
        sid = task.vas_seg_create(f"writer {self.number}", self.start, self.start + PAGES * PAGE, 0o600)
        task.vas_seg_attach(vid, sid, everspace.O_RDWR)
        self.vid, self.sid = vid, sid

    def work(self, service: Service, seed: int) -> None:
        """Store until no answer comes any more."""
        rng = random.Random(seed)
        connection = service.http()
        try:
            task = HttpTask.spawn(connection)
            task.vas_attach(0, self.vid, everspace.O_RDWR)
            task.vas_switch(self.vid)
            while True:
                rng.choice((self.store, self.store, self.two_stores, self.name, self.sync))(task, rng)
        except (OSError, http.client.HTTPException):
            return
        except Problem as problem:
            if problem.answer.status != 503:
                raise

    # -- requests: note what may be, send, note what is --------------------------------------------------
    def acknowledge(self) -> None:
        assert self.maybe is not None
        self.sure, self.maybe = self.maybe, None
        self.acknowledged += 1

    def planned(self) -> Model:
        self.maybe = Model(bytearray(self.sure.data), dict(self.sure.names), self.sure.generations)
        return self.maybe

    def piece(self, rng: random.Random, most: int) -> tuple[int, bytes]:
        length = rng.choice((8, 100, PAGE, rng.randrange(1, most)))
        offset = rng.randrange(SYNCED * PAGE, PAGES * PAGE - length)
        return offset, rng.randbytes(length)

    def store(self, task: HttpTask, rng: random.Random) -> None:
        offset, data = self.piece(rng, 40_000)
        self.planned().data[offset : offset + len(data)] = data
        task.write(self.start + offset, data, self.durability)
        self.acknowledge()

    def two_stores(self, task: HttpTask, rng: random.Random) -> None:
        model, calls = self.planned(), []
        for _ in range(2):
            offset, data = self.piece(rng, 5000)
            model.data[offset : offset + len(data)] = data
            calls.append({"call": "write", "args": {"addr": hex(self.start + offset), "data": b64(data)}})
        task.batch(*calls, atomic=True)
        self.acknowledge()

    def name(self, task: HttpTask, rng: random.Random) -> None:
        model = self.planned()
        if model.names and rng.random() < 0.4:
            name = rng.choice(sorted(model.names))
            task.vas_delete(model.names.pop(name))
        else:
            name = f"{self.number}/{rng.getrandbits(64):x}"
            model.names[name] = 0
            model.names[name] = task.vas_create(name, 0o600)
        self.acknowledge()

    def sync(self, task: HttpTask, rng: random.Random) -> None:
        model = self.planned()
        new = max(model.generations) + 1
        model.generations |= {new}
        for page in range(SYNCED):
            task.write(self.start + page * PAGE, new.to_bytes(8, "little"), durability="relaxed")
        task.msync()
        model.generations = frozenset({new})
        self.acknowledge()

    # -- after the crash ---------------------------------------------------------------------------------
    def compare(self, service: Service) -> None:
        """All that was acknowledged is there, and of the last request all or nothing; go on from what is there."""
        with_root = service.http()
        found = bytearray(with_root.call("GET", f"/v1/segments/{self.sid}/data").body)
        spaces = {item["name"]: item["id"] for item in with_root.get("/v1/vas?limit=1000")["items"]}
        names = {name: vid for name, vid in spaces.items() if name.startswith(f"{self.number}/")}
        models = [self.sure] if self.maybe is None else [self.sure, self.maybe]
        behind = SYNCED * PAGE
        assert found[behind:] in [model.data[behind:] for model in models], "bytes"
        assert names.keys() in [model.names.keys() for model in models], "names"
        assert all(names.get(name, vid) == vid for name, vid in self.sure.names.items()), "ids"
        pages = [int.from_bytes(found[page * PAGE : page * PAGE + 8], "little") for page in range(SYNCED)]
        assert set(pages) <= frozenset().union(*(model.generations for model in models)), "pages after msync"
        self.sure = Model(found, names, frozenset(pages))
        self.maybe = None
