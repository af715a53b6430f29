"""Numbers that the calls take, as Linux on x86-64 defines them, and those of the VAS and mmview patch sets."""

from typing import Final

PROT_NONE: Final = 0
PROT_READ: Final = 1
PROT_WRITE: Final = 2
PROT_EXEC: Final = 4
PROT_SEM: Final = 8
PROT_GROWSDOWN: Final = 0x0100_0000
PROT_GROWSUP: Final = 0x0200_0000

MAP_SHARED: Final = 0x01
MAP_PRIVATE: Final = 0x02
MAP_FIXED: Final = 0x10
MAP_ANONYMOUS: Final = 0x20
MAP_ANON: Final = MAP_ANONYMOUS
MAP_GROWSDOWN: Final = 0x0100
MAP_LOCKED: Final = 0x2000
MAP_NORESERVE: Final = 0x4000
MAP_POPULATE: Final = 0x8000
MAP_STACK: Final = 0x20000
MAP_FIXED_NOREPLACE: Final = 0x100000

O_RDONLY: Final = 0
O_WRONLY: Final = 1
O_RDWR: Final = 2
O_ACCMODE: Final = 3

MS_ASYNC: Final = 1
MS_INVALIDATE: Final = 2
MS_SYNC: Final = 4

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
"""Of the VAS patches' later tree: not seen inside spaces. Linux itself has another advice under this number."""
MADV_VAS_SHARED: Final = 19
MADV_COLD: Final = 20
MADV_PAGEOUT: Final = 21
MADV_POPULATE_READ: Final = 22
MADV_POPULATE_WRITE: Final = 23
MADV_DONTNEED_LOCKED: Final = 24
MADV_COLLAPSE: Final = 25

MLOCK_ONFAULT: Final = 1

RLIM_INFINITY: Final = 2**64 - 1
"""What prlimit takes and answers where there is no limit."""

MMVIEW_CREATE: Final = 0
MMVIEW_DELETE: Final = 1
MMVIEW_CURRENT: Final = 2
MMVIEW_MIGRATE: Final = 3
MMVIEW_UNSHARE: Final = 4
MMVIEW_SHARE: Final = 5
MMVIEW_SWITCH_BASE: Final = 6
