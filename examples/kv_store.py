"""A key-value store without a server: its clients go into the space where it lives.

The store is a hash table of pointers. Its blocks come from the heap inside a segment, a root pointer says where the
table is, and the space is lockable: going in takes the lock, going out gives it back, so every operation is alone.
Whoever dies inside loses the lock with its task. Nothing is serialised, and after a restart it is all there.
"""

import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import everspace
from everspace import O_RDWR
from examples.service import Service, own_service

START, BYTES = 0x2000_0000_0000, 1 << 20
SPACE, ROOT = "kv", "table"
BUCKETS = 64
POINTER = struct.Struct("<Q")
ENTRY = struct.Struct("<QII")  # next entry, bytes of the key, bytes of the value; both follow
CLIENTS, ROUNDS = 4, 10


class KvStore:
    """The store as one task uses it; the task has the space attached."""

    def __init__(self, task: everspace.Task, vid: int) -> None:
        self._task = task
        self._vid = vid

    @classmethod
    def create(cls, task: everspace.Task) -> Self:
        """Make the space, its segment, and an empty table."""
        vid = task.vas_create(SPACE, 0o600, "lockable")
        sid = task.vas_seg_create(SPACE, START, START + BYTES, 0o600, "lockable")
        task.vas_seg_attach(vid, sid, O_RDWR)
        store = cls.open(task)
        with store.inside():
            table = task.vas_malloc(POINTER.size * BUCKETS)
            task.write(table, bytes(POINTER.size * BUCKETS))
            task.vas_set_root(ROOT, table)
        return store

    @classmethod
    def open(cls, task: everspace.Task) -> Self:
        """Find the space by its name."""
        vid = task.vas_find(SPACE)
        task.vas_attach(0, vid, O_RDWR)
        return cls(task, vid)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be in the space, alone, for as long as the block takes."""
        self._task.vas_switch(self._vid)
        try:
            yield
        finally:
            self._task.vas_switch(0)

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        with self.inside():
            found = self._find(key)
            return None if found is None else found[2]

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value of a key."""
        with self.inside():
            self._put(key, value)

    def add(self, key: bytes, amount: int) -> int:
        """Add to a number, alone in the space between reading and writing; the new number."""
        with self.inside():
            found = self._find(key)
            number = amount + (int(found[2]) if found else 0)
            self._put(key, str(number).encode())
        return number

    def delete(self, key: bytes) -> bool:
        """Take a key out and give its block back; whether it was there."""
        with self.inside():
            return self._delete(key)

    def _bucket(self, key: bytes) -> int:
        return self._task.vas_get_root(ROOT) + POINTER.size * (zlib.crc32(key) % BUCKETS)

    def _pointer(self, address: int) -> int:
        return int(POINTER.unpack(self._task.read(address, POINTER.size))[0])

    def _find(self, key: bytes) -> tuple[int, int, bytes] | None:
        """Where the pointer to the entry is, the entry's address, its value."""
        link = self._bucket(key)
        while entry := self._pointer(link):
            _, key_bytes, value_bytes = ENTRY.unpack(self._task.read(entry, ENTRY.size))
            content = self._task.read(entry + ENTRY.size, key_bytes + value_bytes)
            if content[:key_bytes] == key:
                return link, entry, content[key_bytes:]
            link = entry
        return None

    def _put(self, key: bytes, value: bytes) -> None:
        found = self._find(key)
        link, old = (found[0], found[1]) if found else (self._bucket(key), 0)
        following = self._pointer(old or link)
        record = ENTRY.pack(following, len(key), len(value)) + key + value
        entry = self._task.vas_malloc(len(record))
        with self._task.batch(atomic=True) as batch:
            batch.write(entry, record)
            batch.write(link, POINTER.pack(entry))
            if old:
                batch.vas_free(old)

    def _delete(self, key: bytes) -> bool:
        found = self._find(key)
        if found is None:
            return False
        link, entry, _ = found
        with self._task.batch(atomic=True) as batch:
            batch.write(link, POINTER.pack(self._pointer(entry)))
            batch.vas_free(entry)
        return True


@dataclass(frozen=True)
class Outcome:
    """What was read back, before and after a restart; what several clients counted in one number."""

    before: dict[bytes, bytes | None]
    after: dict[bytes, bytes | None]
    visits: int
    blocks: int


def visit(service: Service) -> None:
    """A client of its own that counts its visits."""
    with everspace.connect(service.url, service.token) as client, client.spawn() as task:
        store = KvStore.open(task)
        for _ in range(ROUNDS):
            store.add(b"visits", 1)


def play(service: Service) -> Outcome:
    """Fill the store, let several clients count at once, kill the service, and read on."""
    with everspace.connect(service.url, service.token) as client, client.spawn() as task:
        store = KvStore.create(task)
        for number in range(20):
            store.put(b"key %d" % number, b"value %d" % number)
        store.put(b"key 3", b"another value, and a longer one")
        store.delete(b"key 5")
        keys = [b"key 3", b"key 4", b"key 5"]
        before = {key: store.get(key) for key in keys}
        with ThreadPoolExecutor(CLIENTS) as pool:
            for done in [pool.submit(visit, service) for _ in range(CLIENTS)]:
                done.result()
    service.kill()
    service.start()
    with everspace.connect(service.url, service.token) as client, client.spawn() as task:
        store = KvStore.open(task)
        after = {key: store.get(key) for key in keys}
        visits = store.add(b"visits", 0)
        blocks = client.segments.find(SPACE).heap().blocks
    return Outcome(before, after, visits, blocks)


def main() -> None:
    """Tell how it went."""
    with own_service() as service:
        outcome = play(service)
    print(f"{CLIENTS} clients counted to {outcome.visits} in one number, {ROUNDS} times each")
    for key, value in outcome.after.items():
        print(f"{key.decode()} = {'nothing' if value is None else value.decode()}")
    print("the same after SIGKILL" if outcome.after == outcome.before else "SIGKILL has changed something")


if __name__ == "__main__":
    main()
