"""Numbers that callers pass, as Linux on x86-64 defines them, and the limits of names and ids.

Sources: <asm-generic/mman-common.h>, <fcntl.h>, and the VAS patch set's include/uapi/linux/vas.h.
"""

from typing import Final

PROT_NONE: Final = 0
PROT_READ: Final = 1
PROT_WRITE: Final = 2
PROT_EXEC: Final = 4
PROT_ALL: Final = PROT_READ | PROT_WRITE | PROT_EXEC

MAP_SHARED: Final = 0x01
MAP_PRIVATE: Final = 0x02
MAP_TYPE: Final = 0x0F
MAP_FIXED: Final = 0x10
MAP_ANONYMOUS: Final = 0x20
MAP_GROWSDOWN: Final = 0x0100
MAP_NORESERVE: Final = 0x4000
MAP_POPULATE: Final = 0x8000
MAP_STACK: Final = 0x20000
MAP_FIXED_NOREPLACE: Final = 0x100000

MS_ASYNC: Final = 1
MS_INVALIDATE: Final = 2
MS_SYNC: Final = 4

O_RDONLY: Final = 0
O_WRONLY: Final = 1
O_RDWR: Final = 2
O_ACCMODE: Final = 3

INT_MAX: Final = 2**31 - 1
"""Ids are below this, as in the source (idr_alloc with end INT_MAX)."""
NAME_BYTES_MAX: Final = 255
"""Bytes of UTF-8 in the name of a space, a segment or a task."""
MODE_MASK: Final = 0o666
"""Bits of a mode that are kept; execute bits are dropped, as in the source."""
SHARES_MAX: Final = 65535
"""Attachments of one space or segment (U16_MAX in the source)."""
ID_MAX: Final = 2**32 - 2
"""Greatest uid or gid; 2**32 - 1 means "unchanged" to chown(2) and is never an owner."""
MAP_COUNT_MAX: Final = 65530
"""Regions of one address space (vm.max_map_count)."""

EXCLUSIVE: Final = "exclusive"
SHARED: Final = "shared"
SHARING: Final = (EXCLUSIVE, SHARED)
