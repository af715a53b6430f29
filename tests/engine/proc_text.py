"""What the texts of procfs say, taken apart."""

import re

from tests.engine.host import FIXED, PRIVATE, RW, Host

HEADER = re.compile(
    r"([0-9a-f]{8,})-([0-9a-f]{8,}) ([r-][w-][x-][sp]) ([0-9a-f]{8,}) [0-9a-f]{2,}:[0-9a-f]{2,} \d+ (?: *(\S.*))?"
)


def blocks(text: str) -> dict[int, dict[str, str]]:
    """smaps by the start of each region; the header's parts are under their own names."""
    found: dict[int, dict[str, str]] = {}
    for line in text.splitlines():
        header = HEADER.fullmatch(line)
        if header is not None:
            current = found[int(header[1], 16)] = {"perms": header[3], "name": header[5] or ""}
        else:
            key, value = line.split(":", 1)
            current[key] = value.strip()
    return found


def kib(block: dict[str, str]) -> dict[str, int]:
    """The sizes of a block, without those that are 0."""
    sizes = {key: int(value.removesuffix(" kB")) for key, value in block.items() if value.endswith(" kB")}
    return {key: size for key, size in sizes.items() if size and key not in ("KernelPageSize", "MMUPageSize")}


def smaps(host: Host, pid: int, tid: int | None = None) -> dict[int, dict[str, str]]:
    return blocks(host.do("smaps_text", pid, tid))


def status(host: Host, pid: int) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in host.do("status_text", pid).splitlines())


def used(host: Host, pid: int, address: int | None = None) -> dict[str, int]:
    """The sizes of the region at an address, by default the base."""
    return kib(smaps(host, pid)[host.base if address is None else address])


def mapped(host: Host, pages: int, flags: int = PRIVATE) -> int:
    """A new task with so many pages at the base."""
    pid = host.task()
    host.do("mmap", pid, None, host.base, pages * host.page, RW, flags | FIXED)
    return pid
