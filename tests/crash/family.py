"""Spaces, segments and images that are cloned from each other, against plain byte strings, over a life with failures."""

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Self

from engine.constants import MADV_DONTNEED
from engine.credentials import ROOT
from engine.geometry import X86_64
from tests.crash.life import Life, OutOfFrames
from tests.engine.host import FIXED, PRIVATE, RW

PAGE = X86_64.page_size
BASE = X86_64.arena_start
OWN = 600
"""A space's own pages begin here, counted from the arena's start; a leaf of the page tables ends within them."""
OWN_PAGES = 16
SEGMENT_PAGES = 10
PLACES = 4
STRIDE = 20
"""Segments lie at one of few places, that many pages apart."""
TASK_BASE = 0x3_0000_0000
TASK_PAGES = 12
SPACES_MAX = 10
SEGMENTS_MAX = 14
ZEROS = bytes(PAGE)
Content = dict[int, bytes]
"""Bytes of the pages that are mapped, by number."""


@dataclass
class Segment:
    """What a segment holds; `born`: at its birth, None for an original."""

    place: int
    pages: Content
    born: Content | None = None
    snapshot: bool = False


@dataclass
class Birth:
    """What a clone of a space was born with, and of which segments."""

    pages: Content
    roots: dict[str, int]
    segments: list[int]


@dataclass
class Space:
    """What a space holds of its own, and which segments it shows; an image holds the memory of a task."""

    pages: Content
    born: Birth | None = None
    snapshot: bool = False
    image: bool = False
    roots: dict[str, int] = field(default_factory=dict)
    segments: dict[int, int] = field(default_factory=dict)
    """sid: type of the attachment, 0 reads and 2 writes too."""


@dataclass
class Model:
    """Everything that is."""

    spaces: dict[int, Space] = field(default_factory=dict)
    segments: dict[int, Segment] = field(default_factory=dict)

    def copy(self) -> Self:
        return deepcopy(self)


class Family:
    """A history: one step after the other, each a few calls that are compared with the model."""

    def __init__(self, where: Path, seed: int) -> None:
        self.rng = Random(seed)
        self.life = Life(where, self.rng, Model())
        self.names = 0

    @property
    def model(self) -> Model:
        return self.life.model

    def name(self) -> str:
        self.names += 1
        return f"name {self.names}"

    def any_space(self, *, image: bool = False) -> int | None:
        found = [vid for vid, space in self.model.spaces.items() if space.image == image]
        return self.rng.choice(found) if found else None

    def any_segment(self) -> int | None:
        return self.rng.choice(list(self.model.segments)) if self.model.segments else None

    def expect(self, errno: str, call: str, *args: object) -> None:
        found = self.life.refused(call, *args)
        assert found == errno, f"{call}{args}: {found}, not {errno}"

    # -- tasks, which live for one step

    def inside(self, vid: int, type: int) -> int:
        """A task in a space."""
        pid: int = self.life.do("spawn", None, 60).pid
        self.life.do("vas_attach", pid, vid, type, True)
        self.life.do("vas_switch", pid, None, vid)
        return pid

    def everybody_leaves(self) -> None:
        for task in self.life.machine.tasks(ROOT):
            self.life.do("exit", task.pid)

    # -- what is there

    def visible(self, vid: int) -> dict[int, tuple[Content, int]]:
        """By page of the arena: where the model has it."""
        space = self.model.spaces[vid]
        found = {OWN + page: (space.pages, page) for page in space.pages}
        for sid in space.segments:
            segment = self.model.segments[sid]
            found |= {segment.place * STRIDE + page: (segment.pages, page) for page in segment.pages}
        return found

    def patch(
        self, view: dict[int, tuple[Content, int]], first: int, count: int
    ) -> tuple[int, bytes, list[bytes]]:
        """A store into pages [first, first + count): offset in the first, bytes, and the pages afterwards."""
        low, high = (
            self.rng.choice((0, 0, self.rng.randrange(PAGE))),
            self.rng.choice((PAGE, self.rng.randrange(1, PAGE + 1))),
        )
        if count == 1 and low >= high:
            low, high = 0, PAGE
        old = b"".join(content[page] for content, page in (view[first + n] for n in range(count)))
        end = (count - 1) * PAGE + high
        data = self.rng.choice(
            (self.rng.randbytes(end - low), bytes([self.rng.randrange(256)]) * (end - low))
        )
        new = old[:low] + data + old[end:]
        return low, data, [new[n * PAGE : (n + 1) * PAGE] for n in range(count)]

    def run_in(self, pages: list[int]) -> tuple[int, int]:
        """(first, count) of neighbours."""
        first, count = self.rng.choice(pages), 1
        while count < 6 and first + count in pages and self.rng.random() < 0.6:
            count += 1
        return first, count

    def compare_space(self, vid: int) -> None:
        space = self.model.spaces[vid]
        if space.image:
            self.compare_image(vid)
            return
        assert self.life.do("vas_roots", vid) == dict(sorted(space.roots.items()))
        pid, view = self.inside(vid, 0), self.visible(vid)
        for page in sorted(view):
            content, number = view[page]
            found = self.life.do("read", pid, None, BASE + page * PAGE, PAGE)
            assert found == content[number], f"space {vid}, page {page}"
        for page in range(OWN_PAGES):
            if page not in space.pages:
                self.expect("EFAULT", "read", pid, None, BASE + (OWN + page) * PAGE, 1)
        self.life.do("exit", pid)

    def compare_image(self, vid: int) -> None:
        pid: int = self.life.do("spawn", None, 60).pid
        self.life.do("vas_exec", pid, vid)
        for page in range(TASK_PAGES):
            address, wanted = TASK_BASE + page * PAGE, self.model.spaces[vid].pages.get(page)
            if wanted is None:
                self.expect("EFAULT", "read", pid, None, address, 1)
            else:
                assert self.life.do("read", pid, None, address, PAGE) == wanted, f"image {vid}, page {page}"
        self.life.do("exit", pid)

    def compare_segment(self, sid: int) -> None:
        pages = self.model.segments[sid].pages
        found = self.life.do("seg_read", sid, 0, SEGMENT_PAGES * PAGE)
        assert found == b"".join(pages[page] for page in range(SEGMENT_PAGES)), f"segment {sid}"

    def compare(self) -> None:
        """Everything."""
        for vid in list(self.model.spaces):
            self.compare_space(vid)
        for sid in list(self.model.segments):
            self.compare_segment(sid)

    # -- steps

    def step(self) -> None:
        """Something happens."""
        steps = (
            (self.make_space, 4), (self.make_segment, 4), (self.attach, 5), (self.detach, 2), (self.write, 20),
            (self.read, 3), (self.write_segment, 9), (self.clone, 6), (self.clone_segment, 3), (self.reset, 4),
            (self.reset_segment, 3), (self.delete, 3), (self.delete_segment, 3), (self.change_regions, 7),
            (self.set_root, 2), (self.make_image, 3), (self.life.maintain, 6), (self.life.commit, 8),
            (self.life.commit_that_may_fail, 6), (self.life.write_back, 2), (self.evict, 3),
            (self.life.restart, 0.7), (self.life.crash, 1.3),
        )  # fmt: skip
        [chosen] = self.rng.choices([step for step, _ in steps], [weight for _, weight in steps])
        self.life.log.append(f"# {chosen.__name__}")
        try:
            chosen()
        except OutOfFrames:
            self.life.log.append("* out of frames")
        finally:
            self.everybody_leaves()

    def make_space(self) -> None:
        if len(self.model.spaces) < SPACES_MAX:
            vid = self.life.do("vas_create", self.name(), 0o666, "shared")
            self.model.spaces[vid] = Space({})
            self.life.do("vas_mmap", vid, BASE + OWN * PAGE, OWN_PAGES * PAGE, RW, PRIVATE | FIXED)
            self.model.spaces[vid].pages = dict.fromkeys(range(OWN_PAGES), ZEROS)

    def make_segment(self) -> None:
        if len(self.model.segments) < SEGMENTS_MAX:
            place = self.rng.randrange(PLACES)
            start = BASE + place * STRIDE * PAGE
            sid = self.life.do(
                "vas_seg_create", self.name(), start, start + SEGMENT_PAGES * PAGE, 0o666, "shared"
            )
            self.model.segments[sid] = Segment(place, dict.fromkeys(range(SEGMENT_PAGES), ZEROS))

    def attach(self) -> None:
        vid, sid = self.any_space(), self.any_segment()
        if vid is None or sid is None or sid in self.model.spaces[vid].segments:
            return
        space, segment = self.model.spaces[vid], self.model.segments[sid]
        type = 0 if segment.snapshot else self.rng.choice((0, 2))
        if space.snapshot:
            self.expect("EPERM", "vas_seg_attach", vid, sid, type)
        elif any(self.model.segments[other].place == segment.place for other in space.segments):
            self.expect("EFAULT", "vas_seg_attach", vid, sid, type)
        else:
            self.expect("", "vas_seg_attach", vid, sid, type)
            self.model.spaces[vid].segments[sid] = type

    def detach(self) -> None:
        vid = self.any_space()
        if vid is None or not self.model.spaces[vid].segments:
            return
        sid = self.rng.choice(list(self.model.spaces[vid].segments))
        if self.model.spaces[vid].snapshot:
            self.expect("EPERM", "vas_seg_detach", vid, sid)
        else:
            self.expect("", "vas_seg_detach", vid, sid)
            del self.model.spaces[vid].segments[sid]

    def write(self) -> None:
        vid = self.any_space()
        if vid is None or self.model.spaces[vid].snapshot or not self.visible(vid):
            return
        pid, view = self.inside(vid, 2), self.visible(vid)
        first, count = self.run_in(list(view))
        low, data, new = self.patch(view, first, count)
        space = self.model.spaces[vid]
        read_only = {self.model.segments[sid].place for sid, type in space.segments.items() if type == 0}
        errno = "EFAULT" if any(page // STRIDE in read_only for page in range(first, first + count)) else ""
        durable = self.rng.random() < 0.7
        found = self.life.refused("write", pid, None, BASE + first * PAGE + low, data, durable=durable)
        assert found == errno
        view = self.visible(vid)
        for number, bytes_now in enumerate(new if not errno else ()):
            content, page = view[first + number]
            content[page] = bytes_now

    def read(self) -> None:
        vid = self.any_space(image=self.rng.random() < 0.2)
        if vid is not None:
            self.compare_space(vid)

    def write_segment(self) -> None:
        sid = self.any_segment()
        if sid is None:
            return
        if self.rng.random() < 0.3:
            self.compare_segment(sid)
            return
        segment = self.model.segments[sid]
        first = self.rng.randrange(SEGMENT_PAGES)
        count = self.rng.randint(1, SEGMENT_PAGES - first)
        low, data, new = self.patch({page: (segment.pages, page) for page in segment.pages}, first, count)
        durable = self.rng.random() < 0.7
        found = self.life.refused("seg_write", sid, first * PAGE + low, data, durable=durable)
        assert found == ("EPERM" if segment.snapshot else "")
        if not found:
            self.model.segments[sid].pages.update(enumerate(new, first))

    def clone(self) -> None:
        vid = self.any_space(image=self.rng.random() < 0.2)
        if vid is None or len(self.model.spaces) >= SPACES_MAX or len(self.model.segments) >= SEGMENTS_MAX:
            return
        snapshot = self.rng.random() < 0.25
        copy: int = self.life.do("vas_snapshot" if snapshot else "vas_clone", vid, self.name())
        source = self.model.spaces[vid]
        made = Space(dict(source.pages), snapshot=snapshot, image=source.image, roots=dict(source.roots))
        for sid in self.life.machine.vas_getattr(ROOT, copy).segments:
            origin = self.life.machine.vas_seg_getattr(ROOT, sid).origin
            assert origin in source.segments
            self._segment_cloned(origin, sid, snapshot=snapshot)
            made.segments[sid] = source.segments[origin]
        assert len(made.segments) == len(source.segments)
        if not snapshot:
            made.born = Birth(dict(made.pages), dict(made.roots), list(made.segments))
        self.model.spaces[copy] = made

    def clone_segment(self) -> None:
        sid = self.any_segment()
        if sid is not None and len(self.model.segments) < SEGMENTS_MAX:
            snapshot = self.rng.random() < 0.25
            call = "vas_seg_snapshot" if snapshot else "vas_seg_clone"
            self._segment_cloned(sid, self.life.do(call, sid, self.name()), snapshot=snapshot)

    def _segment_cloned(self, sid: int, copy: int, *, snapshot: bool) -> None:
        source = self.model.segments[sid]
        born = None if snapshot else dict(source.pages)
        self.model.segments[copy] = Segment(source.place, dict(source.pages), born, snapshot)

    def reset(self) -> None:
        vid = self.any_space(image=self.rng.random() < 0.1)
        if vid is None:
            return
        space = self.model.spaces[vid]
        found = self.life.refused("vas_reset", vid)
        if space.snapshot or space.born is None:
            assert found == ("EPERM" if space.snapshot else "EINVAL")
        elif not found:
            space = self.model.spaces[vid]
            birth = space.born or Birth({}, {}, [])
            space.pages, space.roots = dict(birth.pages), dict(birth.roots)
            for sid in {*birth.segments} & space.segments.keys():
                self._reset_segment(sid)
        else:
            assert found in ("EFAULT", "EBUSY")

    def reset_segment(self) -> None:
        sid = self.any_segment()
        if sid is None:
            return
        segment = self.model.segments[sid]
        if segment.snapshot or segment.born is None:
            self.expect("EPERM" if segment.snapshot else "EINVAL", "vas_seg_reset", sid)
        else:
            self.expect("", "vas_seg_reset", sid)
            self._reset_segment(sid)

    def _reset_segment(self, sid: int) -> None:
        segment = self.model.segments[sid]
        segment.pages = dict(segment.born or {})

    def delete(self) -> None:
        vid = self.any_space(image=self.rng.random() < 0.2)
        if vid is not None:
            self.expect("", "vas_delete", vid)
            del self.model.spaces[vid]

    def delete_segment(self) -> None:
        sid = self.any_segment()
        if sid is None:
            return
        if any(sid in space.segments for space in self.model.spaces.values()):
            self.expect("EBUSY", "vas_seg_delete", sid)
        else:
            self.expect("", "vas_seg_delete", sid)
            del self.model.segments[sid]

    def change_regions(self) -> None:
        vid = self.any_space()
        if vid is None:
            return
        space, first = self.model.spaces[vid], self.rng.randrange(OWN_PAGES)
        pages = range(first, first + self.rng.randint(1, OWN_PAGES - first))
        where = BASE + (OWN + first) * PAGE, len(pages) * PAGE
        kind = self.rng.choice(("map", "unmap", "discard"))
        errno = "EPERM" if space.snapshot else ""
        if kind == "map":
            self.expect(errno, "vas_mmap", vid, *where, RW, PRIVATE | FIXED)
        elif kind == "unmap":
            self.expect(errno, "vas_munmap", vid, *where)
        elif errno or not {*pages} <= space.pages.keys():
            return
        else:
            pid = self.inside(vid, 2)
            self.expect("", "madvise", pid, None, *where, MADV_DONTNEED)
            zeros = self.life.do("read", pid, None, *where) == bytes(where[1])
            if not zeros:
                return  # a space's memory is shared: it keeps its bytes
        for page in pages if not errno else ():
            if kind == "unmap":
                self.model.spaces[vid].pages.pop(page, None)
            else:
                self.model.spaces[vid].pages[page] = ZEROS

    def set_root(self) -> None:
        vid = self.any_space()
        if vid is not None:
            name, address = self.rng.choice("ab"), BASE + self.rng.randrange(99)
            snapshot = self.model.spaces[vid].snapshot
            self.expect("EPERM" if snapshot else "", "vas_set_root", vid, name, address)
            if not snapshot:
                self.model.spaces[vid].roots[name] = address

    def make_image(self) -> None:
        if len(self.model.spaces) >= SPACES_MAX:
            return
        pid: int = self.life.do("spawn", None, 60).pid
        self.life.do("mmap", pid, None, TASK_BASE, TASK_PAGES * PAGE, RW, PRIVATE | FIXED)
        pages: Content = dict.fromkeys(range(TASK_PAGES), ZEROS)
        for _ in range(self.rng.randint(0, 4)):
            first, count = self.run_in(list(pages))
            low, data, new = self.patch({page: (pages, page) for page in pages}, first, count)
            self.life.do("write", pid, None, TASK_BASE + first * PAGE + low, data)
            pages.update(enumerate(new, first))
        if self.rng.random() < 0.5:
            hole = self.rng.randrange(TASK_PAGES)
            self.life.do("munmap", pid, None, TASK_BASE + hole * PAGE, PAGE)
            del pages[hole]
        vid = self.life.do("vas_fork", pid, None, self.name())
        self.model.spaces[vid] = Space(pages, image=True)

    def evict(self) -> None:
        self.life.machine.objects.evict(self.rng.randint(1, 60))
