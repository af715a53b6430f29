"""Who calls, and what a mode lets them do."""

from dataclasses import dataclass

from engine.access import READ_WRITE, Access
from engine.errors import EACCES, EngineError


@dataclass(frozen=True, slots=True)
class Credentials:
    """Effective uid and groups of a caller; `gids[0]` is the primary group."""

    uid: int
    gids: tuple[int, ...]

    @property
    def is_root(self) -> bool:
        """uid 0 passes every check, as in the source."""
        return self.uid == 0


ROOT = Credentials(0, (0,))


@dataclass(slots=True)
class Owner:
    """Owner and mode of a space or a segment."""

    uid: int
    gid: int
    mode: int

    def rights_of(self, cred: Credentials) -> Access:
        """The mode's bits for this caller: the first class that matches decides (owner, group, other)."""
        if cred.is_root:
            return READ_WRITE
        shift = 6 if cred.uid == self.uid else 3 if self.gid in cred.gids else 0
        bits = self.mode >> shift
        return Access((bits >> 2 & 1) | (bits & 2))

    def require(self, cred: Credentials, wanted: Access, what: str) -> None:
        """EACCES unless the mode gives the caller all of `wanted`."""
        missing = Access(wanted & ~self.rights_of(cred))
        if missing:
            raise EngineError(EACCES, f"{what}: mode {self.mode:#05o} denies {missing} to uid {cred.uid}")
