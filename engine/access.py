"""Rights on memory as a value that prints as `rw-`."""

from typing import ClassVar

from engine.constants import O_RDONLY, O_RDWR, O_WRONLY


class Access(int):
    """Rights; the bits are those of PROT_*.

    `&` and `|` give plain ints at the speed of ints; wrap them to get a value that prints.
    """

    __slots__ = ()

    NONE: ClassVar["Access"]
    READ: ClassVar["Access"]
    WRITE: ClassVar["Access"]
    EXEC: ClassVar["Access"]
    ALL: ClassVar["Access"]

    def __str__(self) -> str:
        return _LETTERS[self & 7]

    __repr__ = __str__


_LETTERS = tuple("".join(c if i >> b & 1 else "-" for b, c in enumerate("rwx")) for i in range(8))

Access.NONE = Access(0)
Access.READ = Access(1)
Access.WRITE = Access(2)
Access.EXEC = Access(4)
Access.ALL = Access(7)
READ_WRITE = Access(3)

ATTACH_RIGHTS = {O_RDONLY: Access.READ, O_WRONLY: Access.WRITE, O_RDWR: READ_WRITE}
"""Attach type -> the mode bits it needs (SEMANTICS: "type & ~mode & (READ|WRITE)")."""


def attach_limit(attach_type: int) -> Access:
    """What an attachment of this type lets pass. O_WRONLY stays readable, as in the source (1.7)."""
    return Access(5) if attach_type == O_RDONLY else Access.ALL
