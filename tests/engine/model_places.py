"""Where the naive model puts things: fixed places, hints, searches; stacks that grow."""

from dataclasses import replace

from engine.constants import MAP_FIXED, MAP_FIXED_NOREPLACE
from engine.regions.vm_flags import GROWS_DOWN, LOCKED, VAS_PRIVATE
from tests.engine.model_state import (
    Owner,
    Pages,
    Refused,
    State,
    Task,
    View,
    held_in,
    limit_of,
    region_of,
)


def is_free(pages: Pages, wanted: range) -> bool:
    """Whether all of a range is free."""
    return all(vpn not in pages for vpn in wanted)


class Places(State):
    """Addresses of new regions."""

    def place(self, owner: Owner, address: int, length: int, flags: int) -> int:
        geometry, page = self.geometry, self.page
        if length <= 0:
            raise Refused("EINVAL")
        size = -(-length // page) * page
        fixed = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)
        if size > geometry.user_end or (fixed and not 0 <= address <= geometry.user_end - size):
            raise Refused("ENOMEM")
        if self._count(owner) > limit_of(owner, "map_count"):
            raise Refused("ENOMEM")
        if not fixed:
            return self.search(owner, address // page * page, size, lowest=geometry.user_start)
        if address % page:
            raise Refused("EINVAL")
        if address < geometry.user_start:
            raise Refused("EPERM")
        wanted = self.numbers(address, length)
        if flags & MAP_FIXED_NOREPLACE and held_in(owner.pages, wanted):
            raise Refused("EEXIST")
        self.refuse_others(owner, wanted)
        return address

    def refuse_others(self, owner: Owner, wanted: range) -> None:
        """EEXIST: another owner, or a segment, has some of these pages."""
        theirs = any(held_in(pages, wanted) for pages in self.peers(owner))
        if theirs or any(owner.pages[vpn].sid for vpn in held_in(owner.pages, wanted)):
            raise Refused("EEXIST")

    def search(self, owner: Owner, hint: int, size: int, *, lowest: int) -> int:
        """A free range: at the hint (at least `lowest`), or the first one from above, or from below.

        Stacks keep a gap free below them; who meets one looks on beyond it, whatever lies in it.
        """
        geometry, everybody = self.geometry, [owner.pages, *self.peers(owner)]
        if hint > 0:
            hint = max(hint, lowest)
            wanted = self.numbers(hint, size)
            if hint + size <= geometry.user_end and not self._in_the_way(everybody, wanted):
                return hint
        places = [(geometry.arena_start, geometry.arena_end)]
        if isinstance(owner, Task):
            low = geometry.text_start + 4 * self.page
            places = [(geometry.arena_end, geometry.mmap_top), (low, geometry.arena_start)]
        for upwards in (True,) if owner.bottom_up else (False, True):
            for low, high in places:
                found = self._search(everybody, low, high, size, upwards=upwards)
                if found is not None:
                    return found
        raise Refused("ENOMEM")

    def _search(self, everybody: list[Pages], low: int, high: int, size: int, *, upwards: bool) -> int | None:
        starts = range(low // self.page, (high - size) // self.page + 1)
        limit = None
        for start in starts if upwards else reversed(starts):
            wanted = range(start, start + size // self.page)
            if limit is not None and (start < limit if upwards else wanted.stop > limit):
                continue
            if any(not is_free(pages, wanted) for pages in everybody):
                continue
            stack = self._in_the_way(everybody, wanted)
            if stack is None:
                return start * self.page
            limit = stack.stop if upwards else stack.start
        return None

    def _in_the_way(self, everybody: list[Pages], wanted: range) -> range | None:
        """Something that lies in a range, or the stack next above it that keeps it free, with its gap."""
        if any(not is_free(pages, wanted) for pages in everybody):
            return wanted
        above = [
            (min(vpn for vpn in pages if vpn >= wanted.stop), pages)
            for pages in everybody
            if any(vpn >= wanted.stop for vpn in pages)
        ]
        if not above:
            return None
        first, pages = min(above, key=lambda each: each[0])
        gap = self.gap(pages, first)
        return range(gap.start, region_of(pages, first).stop) if gap and gap.start < wanted.stop else None

    def gap(self, pages: Pages, vpn: int) -> range:
        """What should stay free below this page: something if a stack begins with it."""
        page, count = pages[vpn], self.geometry.stack_guard_gap // self.page
        return range(vpn - count, vpn) if page.flags & GROWS_DOWN and not page.joined else range(0)

    def stack_above(self, view: View, vpn: int) -> int | None:
        """The first page of the stack right above a page that nobody has."""
        above = min((number for number in view.task.pages if number >= vpn), default=None)
        if above is None or not view.task.pages[above].flags & GROWS_DOWN:
            return None
        hidden = view.space is not None and view.task.pages[above].flags & VAS_PRIVATE
        return None if hidden else above

    def grow_stack(self, view: View, vpn: int) -> None:
        """Let the stack above a page grow down to it, if it may; if only a limit forbids it, it is marked."""
        task, above = view.task, self.stack_above(view, vpn)
        if above is None or vpn * self.page < self.geometry.user_start or not self._has_gap(task, vpn):
            return
        self.mark(task, above)
        if not self._may_grow(task, region_of(task.pages, above), range(vpn, above)):
            return
        top = task.pages[above]
        for number in range(vpn, above):
            index = top.index - (above - number)
            task.pages[number] = replace(top, cell=self.zero_cell(), index=index, joined=number != vpn)
        task.pages[above] = replace(top, joined=True)

    def _has_gap(self, task: Task, vpn: int) -> bool:
        for pages in (task.pages, *self.peers(task)):
            below = max((number for number in pages if number < vpn), default=None)
            if below is None or pages[below].flags & GROWS_DOWN or not pages[below].prot:
                continue
            if (vpn - below - 1) * self.page < self.geometry.stack_guard_gap:
                return False
        return True

    def _may_grow(self, task: Task, stack: range, new: range) -> bool:
        if (stack.stop - new.start) * self.page > limit_of(task, "stack"):
            return False
        if any(held_in(pages, new) for pages in self.peers(task)):
            return False
        if not self.fits(task, len(new)):
            return False
        return not task.pages[stack.start].flags & LOCKED or self.fits_locked(task, len(new))
