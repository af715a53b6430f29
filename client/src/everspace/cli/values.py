"""How values are written on the command line, and shown."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

from everspace.wire import parse_address

T = TypeVar("T")

UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}


def written(parse: Callable[[str], T]) -> Callable[[str | T], T]:
    """For typer, which gives a parser the option's default, too: only what was written is parsed."""

    def parse_written(value: str | T) -> T:
        return parse(value) if isinstance(value, str) else value

    return parse_written


def parse_size(text: str) -> int:
    """Bytes: 4096, 0x1000, 4K, 64KiB, 1G, 1.5M. ValueError for anything else."""
    if text[:2].lower() == "0x":
        return _hex_or_decimal(text)
    number = text.upper().removesuffix("IB").removesuffix("B")
    unit = number[-1:] if number[-1:] in UNITS and number[-1:].isalpha() else ""
    digits = number.removesuffix(unit) if unit else number
    whole, dot, part = digits.partition(".")
    if not (whole.isascii() and whole.isdigit()) or (dot and not (part.isascii() and part.isdigit())):
        raise ValueError(f"not a size: {text!r} (4096, 0x1000, 4K, 1.5M, 1G)")
    scaled = int(whole + part) * UNITS[unit]
    parts: int = 10 ** len(part)
    size, rest = divmod(scaled, parts)
    if rest:
        raise ValueError(f"not a whole number of bytes: {text!r}")
    return size


def show_time(when: datetime, *, exact: bool = False) -> str:
    """RFC 3339, UTC: 2026-11-21T13:30:00Z; with `exact` as exact as it is known."""
    return when.astimezone(UTC).isoformat(timespec="auto" if exact else "seconds").replace("+00:00", "Z")


def parse_place(text: str) -> int:
    """An address: 0x100000000000 or decimal."""
    return _hex_or_decimal(text)


@dataclass(frozen=True, slots=True)
class End:
    """Where a range ends: at an address, or after a size."""

    value: int
    relative: bool

    def after(self, start: int) -> int:
        """The address."""
        return start + self.value if self.relative else self.value


def parse_end(text: str) -> End:
    """An address, or with a plus a size: +64K."""
    return End(parse_size(text[1:]), True) if text.startswith("+") else End(_hex_or_decimal(text), False)


def parse_mode(text: str) -> int:
    """Permission bits in octal: 640, 0640 or 0o640."""
    digits = text.lower().removeprefix("0o")
    if not digits or len(digits) > 6 or digits.strip("01234567"):
        raise ValueError(f"not a mode in octal: {text!r} (640)")
    return int(digits, 8)


@dataclass(frozen=True, slots=True)
class Owner:
    """UID, UID:GID or :GID; None leaves as it is."""

    uid: int | None
    gid: int | None


def parse_owner(text: str) -> Owner:
    """As chown(1) takes it, with numbers."""
    uid, _, gid = text.partition(":")
    if not (uid or gid) or not all(part.isascii() and part.isdigit() for part in (uid, gid) if part):
        raise ValueError(f"not an owner: {text!r} (UID, UID:GID or :GID, as numbers)")
    return Owner(int(uid) if uid else None, int(gid) if gid else None)


@dataclass(frozen=True, slots=True)
class Which:
    """A space or segment, by id or by name."""

    id: int | None
    name: str


def parse_which(text: str) -> Which:
    """Digits are an id, anything else is a name; name:7 is the name "7"."""
    if text.isascii() and text.isdigit():
        return Which(int(text), "")
    return Which(None, text.removeprefix("name:"))


def show_size(size: int) -> str:
    """The greatest unit that leaves a whole number: 4K, 1G, 4097."""
    for unit, scale in reversed(UNITS.items()):
        if size >= scale and size % scale == 0:
            return f"{size // scale}{unit}"
    return str(size)


def show_mode(mode: int) -> str:
    """Octal and as ls(1) shows it: 640 rw-r-----."""
    letters = "".join(letter if mode & bit else "-" for bit, letter in zip(_BITS, "rwxrwxrwx", strict=True))
    return f"{mode:03o} {letters}"


def _hex_or_decimal(text: str) -> int:
    return parse_address(text)


_BITS: Final = tuple(1 << place for place in range(8, -1, -1))
