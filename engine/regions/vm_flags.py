"""Flags of a region beside its rights (Linux: VM_*). Regions whose flags differ do not merge."""

from typing import Final

GROWS_DOWN: Final = 1 << 0
"""A stack: an access below it, with nothing between, makes it longer."""
LOCKED: Final = 1 << 1
"""Its pages stay resident."""
LOCK_ON_FAULT: Final = 1 << 2
"""With LOCKED: pages are locked when they are first used, not at once."""
ACCOUNT: Final = 1 << 3
"""Counted as memory that may have to be found: private and writable, now or when it was touched."""
NORESERVE: Final = 1 << 4
"""Never counted so."""
SEQ_READ: Final = 1 << 5
RAND_READ: Final = 1 << 6
DONT_COPY: Final = 1 << 7
"""Left out of a fork."""
DONT_DUMP: Final = 1 << 8
"""Left out of a core file."""
HUGEPAGE: Final = 1 << 9
NOHUGEPAGE: Final = 1 << 10
VAS_PRIVATE: Final = 1 << 11
"""Seen in the original address space only, not inside attached spaces."""
UNSHARED: Final = 1 << 12
"""Each view has pages and rights of its own (mmview)."""

LOCK_FLAGS: Final = LOCKED | LOCK_ON_FAULT
