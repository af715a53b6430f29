"""How much an owner may use: limits of regions, of the address space, of data and of locked memory.

Views are kept in step, so each of them must have the room: what one has not, none gets.
"""

from collections.abc import Sequence
from typing import Self

from engine.access import Access
from engine.constants import RLIM_INFINITY
from engine.errors import ENOMEM, EngineError
from engine.geometry import Geometry
from engine.regions.limits import Limits
from engine.regions.vm_flags import GROWS_DOWN, LOCKED
from engine.regions.vma import Vma, VmaMap


class Limited:
    """Regions and their limits. `views` are the owners kept in step with this one, this one among them."""

    __slots__ = ("_limits", "geometry", "views", "vmas")

    _limits: Limits
    geometry: Geometry
    views: Sequence[Self]
    vmas: VmaMap

    @property
    def limits(self) -> Limits:
        """What the owner may use."""
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self._limits = limits
        self.vmas.limit = limits.map_count

    def mapped(self) -> int:
        """Bytes in regions."""
        return sum(vma.end - vma.start for vma in self.vmas)

    def data(self) -> int:
        """Bytes in private writable regions that are no stack."""
        return sum(vma.end - vma.start for vma in self.vmas if is_data(vma))

    def locked(self) -> int:
        """Bytes in locked regions."""
        return sum(vma.end - vma.start for vma in self.vmas if vma.flags & LOCKED)

    def require_room(self, length: int, *, data: bool) -> None:
        """ENOMEM when `length` bytes more would pass the limit of the address space, or of data."""
        if not self.has_room(length):
            limit = self._limits.address_space
            raise EngineError(ENOMEM, f"the address space is limited to {limit} bytes", length=length)
        if data:
            for view in self.views:
                view.require_data(length)

    def has_room(self, length: int) -> bool:
        """Whether the limit of the address space leaves room for `length` bytes more."""
        limit = self._limits.address_space
        return limit == RLIM_INFINITY or self.mapped() + length <= limit & -self.geometry.page_size

    def require_data(self, length: int) -> None:
        """ENOMEM when `length` bytes more in this view would pass the limit of data."""
        limit = self._limits.data
        if limit != RLIM_INFINITY and self.data() + length > limit & -self.geometry.page_size:
            raise EngineError(ENOMEM, f"data is limited to {limit} bytes", length=length)

    def require_lockable(self, length: int, errno: str) -> None:
        """`errno` when `length` bytes more would pass the limit of locked memory."""
        limit = self._limits.locked
        if limit == RLIM_INFINITY:
            return
        if max(view.locked() for view in self.views) + length > limit & -self.geometry.page_size:
            raise EngineError(errno, f"locked memory is limited to {limit} bytes", length=length)


def is_data(vma: Vma) -> bool:
    """Whether a region counts as data: private, writable, no stack."""
    return bool(vma.access & Access.WRITE) and not vma.shared and not vma.flags & GROWS_DOWN
