"""A segment's memory as a heap sees it."""

from engine.memory.memory_object import MemoryObject


class SegmentBytes:
    """The bytes of a segment of `size` bytes. What is written is durable with the transaction."""

    __slots__ = ("_memory", "page_size", "size")

    def __init__(self, memory: MemoryObject, size: int) -> None:
        self._memory = memory
        self.size = size
        self.page_size = memory.page_size

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes; PagesNeeded when some are in the store only."""
        if not length:
            return b""
        memory, low = self._memory, offset % self.page_size
        if low + length > self.page_size:
            return memory.read(offset, length)
        start = memory.frame_for_read(offset // self.page_size) * self.page_size + low
        return memory.pool.memory[start : start + length].tobytes()

    def write(self, offset: int, data: bytes) -> None:
        """Store bytes that lie in one page. PagesNeeded; ENOMEM: no frames."""
        memory, size = self._memory, self.page_size
        page, low = divmod(offset, size)
        frame = memory.frame_for_write(page, low, len(data))
        memory.store_in_page(frame * size + low, page, data, durable=True)
