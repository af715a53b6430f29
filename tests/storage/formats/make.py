"""How the old data directories beside this file were made: run with the sources of an old release, not with these.

    git archive COMMIT | tar x -C OLD
    cd OLD && PYTHONPATH=OLD:OLD/client/src python make.py OUT

OUT then holds `data`, what the service and the store of that release left behind when they were killed, and
`expected.json`, what the store of that release said that it holds. Both went into format-N.tar.xz, root.token apart.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import everspace
from engine import changes as ask
from engine.geometry import X86_64
from storage import open_store
from storage.lmdb.store import LmdbStore
from storage.rows.format import VERSION

PAGE = X86_64.page_size
BASE = 0x1000_0000_0000


def text(number: int) -> bytes:
    """A page."""
    return f"page {number} ".encode().ljust(64, b".") * (PAGE // 64)


def put(object_id: int, *pages: int, mark: int = 0) -> ask.PutPages:
    return ask.PutPages(object_id, pages, b"".join(text(page + mark) for page in pages))


def by_service(data: Path) -> None:
    """Spaces, a segment, regions, bytes, and an account, through the service, which is then killed."""
    everspaced = [sys.executable, "-m", "app.cli"]
    service = subprocess.Popen([*everspaced, "serve", "--data-dir", str(data), "--port", "18765"])
    while not (data / "root.token").exists():
        time.sleep(0.1)
    time.sleep(2)
    token = (data / "root.token").read_text().strip()
    subprocess.run(
        [
            *everspaced,
            "account",
            "create",
            "--data-dir",
            str(data),
            "--uid",
            "1000",
            "--gid",
            "100",
            "--name",
            "ada",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with everspace.connect("http://127.0.0.1:18765", token) as client:
        task = client.spawn()
        fixed = everspace.MAP_PRIVATE | everspace.MAP_ANONYMOUS | everspace.MAP_FIXED
        heap = task.vas_seg_create("heap ß", BASE, BASE + (64 << 20), 0o660, "shared")
        lab = task.vas_create("lab", 0o640, "shared")
        task.vas_create("empty", 0o600)
        gone = task.vas_create("gone", 0o600)
        task.vas_seg_attach(lab, heap, everspace.O_RDWR)
        task.vas_attach(0, lab, everspace.O_RDWR)
        task.vas_switch(lab)
        own = BASE + (1 << 30)
        task.mmap(own, 64 * PAGE, 3, fixed)
        task.mmap(own + (100 * PAGE), 8 * PAGE, 1, fixed)
        for page in range(0, 60, 3):
            task.write(own + page * PAGE, text(page))
        for page in range(0, 300, 7):
            task.write(BASE + page * PAGE, text(1000 + page))
        task.munmap(own + 30 * PAGE, 10 * PAGE)
        task.vas_delete(gone)
        if VERSION > 1:
            task.vas_set_root("list", own)
            copy = task.vas_clone(lab, "copy of lab")
            task.vas_seg_clone(heap, "copy of heap")
            task.write(own + 3 * PAGE, text(5000))
            task.vas_attach(0, copy, everspace.O_RDWR)
            task.vas_switch(copy)
            task.write(own + 6 * PAGE, text(6000))
            task.vas_switch(0)
            task.vas_clone(copy, "copy of the copy")
        service.send_signal(signal.SIGKILL)
        service.wait()
    (data / "root.token").unlink()


def by_store(data: Path) -> None:
    """What a service rarely leaves: dead chunks, drops and holes in the log behind the checkpoint, gone objects."""
    store = open_store(data, X86_64)
    first = store.load().next_object
    record = ask.SegmentRecord(100, "by hand", 0, 1 << 40, 0o600, 7, 8, "lockable", first)
    store.commit([[ask.PutSegment(record), put(first, *range(0, 600, 2))]])
    store.close()
    store = open_store(data, X86_64)
    store.commit([[put(first, 1, 2, 300, mark=9000), ask.DropPages(first, 100, 60)]])
    if VERSION > 1:
        store.commit([[ask.CloneObject(first, first + 1), put(first + 1, 4, 599, mark=7000)]])
        store.commit([[ask.DropPages(first + 1, 0, 3), ask.CloneObject(first + 1, first + 2)]])
        store.commit([[put(first + 2, 8, mark=8000), ask.DropObject(first + 1)]])
        store.maintain()
    if VERSION > 2:
        store.commit([[ask.PutReceipt(b"by hand", b"done"), ask.PutReceipt(b"gone", b"")]])
        store.commit([[ask.DropReceipt(b"gone")]])
    say(store, data.parent / "expected.json")
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def say(store: LmdbStore, path: Path) -> None:
    """Records, and a checksum of each page of each object."""
    image = store.load()
    found = {
        name: getattr(image, name)
        for name in (
            "spaces",
            "segments",
            "regions",
            "births",
            "roots",
            "unowned",
            "next_vid",
            "next_sid",
            "next_object",
        )
        if hasattr(image, name)
    }
    found["format"] = VERSION
    if hasattr(image, "receipts"):
        found["receipts"] = {key.hex(): value.hex() for key, value in image.receipts.items()}
    found["pages"] = {
        object_id: {page: sha256(content).hexdigest()[:16] for page, content in sorted(pages.items())}
        for object_id in range(1, image.next_object)
        if (pages := store.fetch(object_id, store.stored_pages(object_id, 0, 1 << 40)))
    }
    path.write_text(json.dumps(found, indent=1))


def main() -> None:
    """Make OUT anew."""
    out = Path(sys.argv[1])
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    by_service(out / "data")
    by_store(out / "data")


if __name__ == "__main__":
    main()
