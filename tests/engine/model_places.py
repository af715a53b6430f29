"""Where the naive model puts things: fixed places, hints, searches; stacks that grow."""

from dataclasses import replace

from engine.constants import MAP_FIXED, MAP_FIXED_NOREPLACE
from engine.vm_flags import GROWS_DOWN, LOCKED, VAS_PRIVATE
from tests.engine.model_state import (
    Owner,
    Page,
    Pages,
    Refused,
    State,
    Task,
    View,
    held_in,
    limit_of,
    region_of,
)


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
        """A free range: at the hint (at least `lowest`), or the first one from above (or below).

        Stacks keep a gap free below them.
        """
        geometry = self.geometry
        used: set[int] = set()
        for pages in (owner.pages, *self.peers(owner)):
            used.update(pages, *(self.gap(pages, vpn) for vpn in pages))
        if hint > 0:
            hint = max(hint, lowest)
            if hint + size <= geometry.user_end and used.isdisjoint(self.numbers(hint, size)):
                return hint
        places = [(geometry.arena_start, geometry.arena_end)]
        if isinstance(owner, Task):
            low = geometry.text_start + 4 * self.page
            places = [(geometry.arena_end, geometry.mmap_top), (low, geometry.arena_start)]
        for low, high in places:
            starts = range(low, high - size + 1, self.page)
            for start in starts if owner.bottom_up else reversed(starts):
                if used.isdisjoint(self.numbers(start, size)):
                    return start
        raise Refused("ENOMEM")

    def gap(self, pages: Pages, vpn: int) -> range:
        """What stays free below this page: something if a stack begins with it, up to what was put there."""
        page, first = pages[vpn], vpn
        if page.flags & GROWS_DOWN and not page.joined:
            while first - 1 not in pages and vpn - first < self.geometry.stack_guard_gap // self.page:
                first -= 1
        return range(first, vpn)

    def grow_stack(self, view: View, vpn: int) -> Page | None:
        """A page that nobody has is accessed: the stack above it grows down to it, or it stays nobody's."""
        task = view.task
        above = min((number for number in task.pages if number >= vpn), default=None)
        if above is None or not task.pages[above].flags & GROWS_DOWN:
            return None
        top = task.pages[above]
        if view.space is not None and top.flags & VAS_PRIVATE:
            return None
        new, stack = range(vpn, above), region_of(task.pages, above)
        if not self._may_grow(task, stack, new):
            return None
        self.mark(task, above)
        top = task.pages[above]
        grown = {
            number: replace(
                top, cell=self.zero_cell(), index=top.index - (above - number), joined=number != vpn
            )
            for number in new
        }
        task.pages.update(grown)
        task.pages[above] = replace(top, joined=True)
        return task.pages[vpn]

    def _may_grow(self, task: Task, stack: range, new: range) -> bool:
        if new.start * self.page < self.geometry.user_start:
            return False
        if (stack.stop - new.start) * self.page > limit_of(task, "stack"):
            return False
        for pages in (task.pages, *self.peers(task)):
            below = max((number for number in pages if number < new.start), default=None)
            if below is None or pages[below].flags & GROWS_DOWN or not pages[below].prot:
                continue
            if (new.start - below - 1) * self.page < self.geometry.stack_guard_gap:
                return False
        if any(held_in(pages, new) for pages in self.peers(task)):
            return False
        if len(task.pages) + len(new) > limit_of(task, "address_space") // self.page:
            return False
        return not task.pages[stack.start].flags & LOCKED or self.fits_locked(task, len(new))
