"""Numbers that callers pass, as Linux on x86-64 defines them, and the limits of names and ids.

Sources: <asm-generic/mman-common.h>, <fcntl.h>, and the VAS patch set's include/uapi/linux/vas.h.
"""

from typing import Final

PROT_NONE: Final = 0
PROT_READ: Final = 1
PROT_WRITE: Final = 2
PROT_EXEC: Final = 4
PROT_ALL: Final = PROT_READ | PROT_WRITE | PROT_EXEC
PROT_SEM: Final = 8
"""Accepted and without effect, as on x86."""
PROT_GROWSDOWN: Final = 0x0100_0000
"""mprotect from the start of the stack that holds the address."""
PROT_GROWSUP: Final = 0x0200_0000

MAP_SHARED: Final = 0x01
MAP_PRIVATE: Final = 0x02
MAP_TYPE: Final = 0x0F
MAP_FIXED: Final = 0x10
MAP_ANONYMOUS: Final = 0x20
MAP_GROWSDOWN: Final = 0x0100
MAP_LOCKED: Final = 0x2000
MAP_NORESERVE: Final = 0x4000
MAP_POPULATE: Final = 0x8000
MAP_STACK: Final = 0x20000
MAP_FIXED_NOREPLACE: Final = 0x100000

MREMAP_MAYMOVE: Final = 1
MREMAP_FIXED: Final = 2
MREMAP_DONTUNMAP: Final = 4

MADV_NORMAL: Final = 0
MADV_RANDOM: Final = 1
MADV_SEQUENTIAL: Final = 2
MADV_WILLNEED: Final = 3
MADV_DONTNEED: Final = 4
MADV_FREE: Final = 8
MADV_REMOVE: Final = 9
MADV_DONTFORK: Final = 10
MADV_DOFORK: Final = 11
MADV_HUGEPAGE: Final = 14
MADV_NOHUGEPAGE: Final = 15
MADV_DONTDUMP: Final = 16
MADV_DODUMP: Final = 17
MADV_VAS_PRIVATE: Final = 18
"""Of the VAS patches' later tree; Linux itself has another advice under this number, which does not exist here."""
MADV_VAS_SHARED: Final = 19
MADV_COLD: Final = 20
MADV_PAGEOUT: Final = 21
MADV_POPULATE_READ: Final = 22
MADV_POPULATE_WRITE: Final = 23
MADV_DONTNEED_LOCKED: Final = 24
MADV_COLLAPSE: Final = 25

MLOCK_ONFAULT: Final = 1

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
TASKS_MAX: Final = 32768
"""Tasks of a machine, as many as Linux has pids by default; one more is EAGAIN, as fork(2) has it."""
THREADS_MAX: Final = 4096
"""Threads of one task."""
VIEWS_MAX: Final = 1024
"""Views of one task: each is a copy of its map."""
ROOTS_MAX: Final = 65536
"""Roots of one space."""
SHARES_MAX: Final = 65535
"""Attachments of one space or segment (U16_MAX in the source)."""
ID_MAX: Final = 2**32 - 2
"""Greatest uid or gid; 2**32 - 1 means "unchanged" to chown(2) and is never an owner."""
MAP_COUNT_MAX: Final = 65530
"""Regions of one address space (vm.max_map_count)."""
RLIM_INFINITY: Final = 2**64 - 1
"""A limit that does not limit."""

WORD: Final = 2**64 - 1
"""The greatest value of a register. Sizes are rounded up to pages in one, so that the greatest ones become 0."""

EXCLUSIVE: Final = "exclusive"
SHARED: Final = "shared"
LOCKABLE: Final = "lockable"
SHARING: Final = (EXCLUSIVE, SHARED, LOCKABLE)

MMVIEW_CREATE: Final = 0
MMVIEW_DELETE: Final = 1
MMVIEW_CURRENT: Final = 2
MMVIEW_MIGRATE: Final = 3
MMVIEW_UNSHARE: Final = 4
MMVIEW_SHARE: Final = 5
MMVIEW_SWITCH_BASE: Final = 6
"""Operations of mmview."""
SLOTS_MAX: Final = 16
"""Address spaces of one task that uses multias, the original one among them (N_MM in the source)."""
