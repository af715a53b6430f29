"""Whether this machine can play the kernel's part."""

import os
import platform
import re
import sys
from collections.abc import Sequence
from functools import cache

from tests.oracle.calls import SIGNATURES
from tests.oracle.compare import answer_text, region_text, steps_of
from tests.oracle.kernel import Kernel
from tests.oracle.modes import MODES
from tests.oracle.play import Record
from tests.oracle.rules import RULES

KERNEL = (6, 18)
"""The engine was written after this version; any other must keep the same rules."""
KERNEL_MIN = (6, 17)
"""Merging and moving regions got their present rules in this version."""


@cache
def unsupported() -> str | None:
    """Why the oracle cannot run here, or None."""
    if sys.platform != "linux":
        return "the oracle compares with Linux"
    if platform.machine() != "x86_64" or os.sysconf("SC_PAGE_SIZE") != 4096:
        return "the oracle makes the system calls of x86-64 with pages of 4096 bytes"
    release = os.uname().release
    found = re.match(r"(\d+)\.(\d+)", release)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < KERNEL_MIN:
        return f"the engine follows Linux {'.'.join(map(str, KERNEL))}; this is {release}"
    if version != KERNEL:
        return other_rules(release)
    return None


def other_rules(release: str) -> str | None:
    """The first rule that this kernel does not keep, or None."""
    for mode in MODES.values():
        with Kernel(mode) as kernel:
            for rule in RULES:
                if rule.mode == mode.name and (kernel.can["brk"] or not rule.needs_heap):
                    told = outcome(kernel.run(steps_of(rule.calls)))
                    if told != rule.outcome:
                        return f"Linux {release} has another rule: {rule.name}: {rule.outcome}, here {told}"
    return None


def outcome(records: Sequence[Record]) -> str:
    """What the last call answered, and the map then."""
    _, answer, regions = [entry for entry in records if entry[0] in SIGNATURES][-1]
    return ", ".join([answer_text(answer), *(region_text(region) for region in regions)])
