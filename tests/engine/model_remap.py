"""mremap of the naive model."""

from dataclasses import dataclass, replace

from engine.constants import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE
from engine.credentials import Credentials
from engine.regions.vm_flags import LOCK_FLAGS, LOCKED
from tests.engine.model_advice import AdviceCalls
from tests.engine.model_state import Cell, Owner, Page, Refused, Space, View, held_in, region_of


@dataclass(frozen=True)
class Wish:
    """Page numbers and counts."""

    first: int
    old: int
    new: int
    flags: int
    target: int

    @property
    def source(self) -> range:
        return range(self.first, self.first + self.old)

    @property
    def place(self) -> range:
        return range(self.target, self.target + self.new)

    @property
    def moves_anyway(self) -> bool:
        return bool(self.flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))


class RemapCalls(AdviceCalls):
    """mremap."""

    def mremap(
        self,
        cred: Credentials,
        pid: int,
        tid: int | None,
        address: int,
        old_size: int,
        new_size: int,
        flags: int,
        target: int,
        given: object,
    ) -> int:
        view = self.view(cred, pid, tid)
        wish = self._wish(address, old_size, new_size, flags, target)
        if flags & MREMAP_FIXED and wish.old == wish.new:
            return self._move_all(view, wish) * self.page
        owner, page = self._movable(view, wish.first)
        if wish.new <= wish.old and not wish.moves_anyway:
            if wish.new < wish.old:
                self._shrink(view, wish)
            return address
        self._require_room(owner, page, wish)
        if wish.moves_anyway:
            return self._move_to(view, owner, wish) * self.page
        if self._grow_in_place(view, owner, wish):
            return address
        if not flags & MREMAP_MAYMOVE:
            raise Refused("ENOMEM")
        free = self.search(owner, 0, wish.new * self.page, lowest=0) // self.page
        return self._move(view, owner, replace(wish, target=free)) * self.page

    def _wish(self, address: int, old_size: int, new_size: int, flags: int, target: int) -> Wish:
        page, end = self.page, self.geometry.user_end
        old, new = -(-old_size // page), -(-new_size // page)
        wish = Wish(address // page, old, new, flags, target // page)
        bad = (
            bool(flags & ~7)
            or address % page != 0
            or address < 0
            or old_size < 0
            or not 0 < new <= end // page
        )
        if wish.moves_anyway and not bad:
            bad = target % page != 0 or not 0 <= target <= end - new * page or not flags & MREMAP_MAYMOVE
            bad = bad or bool(flags & MREMAP_DONTUNMAP and old != new)
            bad = bad or (wish.first < wish.place.stop and wish.target < wish.source.stop)
        if bad:
            raise Refused("EINVAL")
        return wish

    def _movable(self, view: View, vpn: int) -> tuple[Owner, Page]:
        found = view.find(vpn)
        if found is None:
            raise Refused("EFAULT")
        if found[0] is view.space and view.read_only:
            raise Refused("EACCES")
        if found[1].sid:
            raise Refused("EBUSY")
        return found

    def _require_room(self, owner: Owner, page: Page, wish: Wish) -> None:
        if not wish.old and (not page.shared or isinstance(owner, Space)):
            raise Refused("EINVAL")
        if wish.first + min(wish.old, wish.new) > region_of(owner.pages, wish.first).stop:
            raise Refused("EFAULT")
        more = wish.new - wish.old
        if more > 0:
            if page.flags & LOCKED and not self.fits_locked(owner, more):
                raise Refused("EAGAIN")
            self.require_room(owner, more, data=page.counts_as_data)

    def _shrink(self, view: View, wish: Wish) -> None:
        if wish.source.stop * self.page > self.geometry.user_end:
            raise Refused("EINVAL")
        self.unmap(view, range(wish.first + wish.new, wish.source.stop))

    def _grow_in_place(self, view: View, owner: Owner, wish: Wish) -> bool:
        more = range(wish.source.stop, wish.first + wish.new)
        if wish.source.stop != region_of(owner.pages, wish.first).stop:
            return False
        if more.stop * self.page > self.geometry.user_end:
            return False
        if any(held_in(pages, more) for pages in (owner.pages, *self.peers(owner))):
            return False
        last = owner.pages[more.start - 1]
        self.put(owner, {vpn: self._later(last, vpn - more.start + 1) for vpn in more})
        if last.flags & LOCKED:
            self.populate(view, more)
        return True

    def _later(self, page: Page, distance: int) -> Page:
        """The page that lies `distance` pages after `page` in the same memory."""
        index = page.index + distance
        cell: Cell | None = self.zero_cell()
        if page.memory:
            cells = self.memories[page.memory]
            cell = cells[index] if index < len(cells) else None
        return replace(page, cell=cell, index=index, forked=False)

    def _move_all(self, view: View, wish: Wish) -> int:
        """Every region of the source, with the gaps between them. Each is moved for itself."""
        position, moved = wish.first, False
        while position < wish.source.stop:
            parts = view.seen(range(position, wish.source.stop))
            if not moved and (not parts or parts[0][1].start > position):
                raise Refused("EFAULT")
            if not parts:
                break
            owner, part = parts[0]
            target = wish.target + part.start - wish.first
            try:
                self._movable(view, part.start)
                self._move_to(view, owner, Wish(part.start, len(part), len(part), wish.flags, target))
            except Refused as refused:
                refused.partial = refused.partial or moved
                raise
            position, moved = part.stop, True
        return wish.target

    def _move_to(self, view: View, owner: Owner, wish: Wish) -> int:
        if wish.flags & MREMAP_DONTUNMAP:
            self.require_room(owner, wish.old, data=owner.pages[wish.first].counts_as_data)
        if not wish.flags & MREMAP_FIXED:
            free = self.search(owner, wish.target * self.page, wish.new * self.page, lowest=0)
            if free < self.geometry.user_start:
                raise Refused("EPERM")
            return self._move(view, owner, replace(wish, target=free // self.page))
        if wish.target * self.page < self.geometry.user_start:
            raise Refused("EPERM")
        self.refuse_others(owner, wish.place)
        self.take(owner, wish.place)
        try:
            if wish.new < wish.old:
                self._shrink(view, wish)
                wish = replace(wish, old=wish.new)
            return self._move(view, owner, wish)
        except Refused as refused:
            refused.partial = owner is view.task  # its target stays empty, a space's does not
            raise

    def _move(self, view: View, owner: Owner, wish: Wish) -> int:
        """The pages go to their new place with all they are. What was never written is numbered anew there."""
        first = owner.pages[wish.first]
        new: dict[int, Page] = {}
        for position, vpn in enumerate(wish.place):
            page = replace(self._later(first, position), forked=first.forked)
            if position < wish.old:
                page = replace(page, cell=owner.pages[wish.first + position].cell)
            if not page.memory and not page.anon:
                page = replace(page, index=vpn)
            if isinstance(owner, Space) and page.cell is not None:
                page.cell.durable = page.cell.data
            new[vpn] = page
        left = {vpn: replace(owner.pages[vpn], cell=self._left(owner.pages[vpn])) for vpn in wish.source}
        whole = wish.old > 0 and region_of(owner.pages, wish.first) == wish.source
        self.put(owner, new)
        owner.pages.update({vpn: replace(owner.pages[vpn], cell=page.cell) for vpn, page in left.items()})
        if wish.flags & MREMAP_DONTUNMAP:
            self._leave(owner, wish, whole=whole)
        elif wish.old:
            self.take(owner, wish.source)
        if first.flags & LOCKED and wish.new > wish.old:
            self.populate(view, range(wish.target + wish.old, wish.place.stop))
        return wish.target

    def _left(self, page: Page) -> Cell | None:
        """What the old place shows until it is taken away."""
        return page.cell if page.memory else self.zero_cell()

    def _leave(self, owner: Owner, wish: Wish, *, whole: bool) -> None:
        """The old region stays, empty and not locked; if all of it went, as if it had never been written."""
        region = region_of(owner.pages, wish.first)
        kept = {}
        for vpn in region:
            page = owner.pages[vpn]
            page = replace(page, flags=page.flags & ~LOCK_FLAGS)
            if whole and wish.target not in region:
                page = replace(page, anon=0, forked=False)
            kept[vpn] = page
        inside = isinstance(owner, Space)
        self.put(owner, kept, left=inside, right=inside)
