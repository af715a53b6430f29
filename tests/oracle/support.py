"""Whether this machine can play the kernel's part."""

import os
import platform
import re
import sys
from functools import cache

KERNEL_MIN = (6, 17)
"""Merging and moving regions got their present rules in this version."""


@cache
def unsupported() -> str | None:
    """Why the oracle cannot run here, or None."""
    if sys.platform != "linux":
        return "the oracle compares with Linux"
    if platform.machine() != "x86_64" or os.sysconf("SC_PAGE_SIZE") != 4096:
        return "the oracle makes the system calls of x86-64 with pages of 4096 bytes"
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if found is None or (int(found[1]), int(found[2])) < KERNEL_MIN:
        return f"the engine follows Linux {'.'.join(map(str, KERNEL_MIN))} and later; this is {os.uname().release}"
    return None
