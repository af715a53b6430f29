"""Rights on memory as a value that prints as `rw-`."""

from enum import IntFlag

from engine.constants import O_RDONLY, O_RDWR, O_WRONLY


class Access(IntFlag):
    """Rights; the bits are those of PROT_*."""

    NONE = 0
    READ = 1
    WRITE = 2
    EXEC = 4
    ALL = 7

    def __str__(self) -> str:
        return _LETTERS[int(self) & 7]


_LETTERS = tuple("".join(c if i >> b & 1 else "-" for b, c in enumerate("rwx")) for i in range(8))

ATTACH_RIGHTS = {
    O_RDONLY: Access.READ,
    O_WRONLY: Access.WRITE,
    O_RDWR: Access.READ | Access.WRITE,
}
"""Attach type -> the mode bits it needs (SEMANTICS: "type & ~mode & (READ|WRITE)")."""


def attach_limit(attach_type: int) -> Access:
    """What an attachment of this type lets pass. O_WRONLY stays readable, as in the source (1.7)."""
    return Access.READ | Access.EXEC if attach_type == O_RDONLY else Access.ALL
