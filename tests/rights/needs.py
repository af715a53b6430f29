"""Who may do what, worked out from the rules of the interface and not from the engine: the oracle of the matrix.

A call has needs, judged in their order; the first that the caller does not meet is the refusal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

GROUP = 500
READ, WRITE = 4, 2


class Caller(StrEnum):
    """Who asks. Only the first four are anybody; of the others nobody knows who they are."""

    ROOT = "root"
    OWNER = "owner"
    MEMBER = "member"
    OTHER = "other"
    READER = "reader"
    NOBODY = "nobody"
    UNKNOWN = "unknown"
    REVOKED = "revoked"
    EXPIRED = "expired"


KNOWN = (Caller.ROOT, Caller.OWNER, Caller.MEMBER, Caller.OTHER)
STRANGERS = (Caller.NOBODY, Caller.UNKNOWN, Caller.REVOKED, Caller.EXPIRED)
"""Without a token, with one that never was, that was revoked, that has expired: 401, whatever they ask for."""
ACCOUNTS = {
    Caller.OWNER: (1001, (GROUP, 1001)),
    Caller.MEMBER: (1002, (1002, GROUP)),
    Caller.OTHER: (1003, (1003,)),
}


@dataclass(frozen=True)
class Need:
    """A right, and the errno of who lacks it. `bits` of a mode, or of a task or an object that it is one's own."""

    errno: str
    bits: int = 0
    own: bool = False


ACCOUNT = Need("")
"""Any account."""
READS = Need("EACCES", READ)
WRITES = Need("EACCES", WRITE)
READS_AND_WRITES = Need("EACCES", READ | WRITE)
OWNS = Need("EPERM", own=True)
"""The owner of the space or the segment, whatever its mode."""
OWN_TASK = Need("EPERM", own=True)
"""A task of the same uid."""
ROOT_ONLY = Need("EPERM")


def meets(caller: Caller, need: Need, mode: int) -> bool:
    """Whether a caller has a right on what belongs to OWNER and GROUP with that mode. The first class that matches decides."""
    if caller is Caller.ROOT or need == ACCOUNT:
        return True
    if need.own:
        return caller in (Caller.OWNER, Caller.READER)
    if not need.bits:
        return False
    shift = {Caller.OWNER: 6, Caller.READER: 6, Caller.MEMBER: 3, Caller.OTHER: 0}[caller]
    return mode >> shift & need.bits == need.bits


def refusal(caller: Caller, needs: Sequence[Need], mode: int) -> str | None:
    """The errno that a caller gets, None if the call is his to make."""
    return next((need.errno for need in needs if not meets(caller, need, mode)), None)
