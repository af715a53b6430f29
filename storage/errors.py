"""Every error of the store.

StoreError
├── StoreUnusable        a data directory that cannot be opened at all; the message is one line for the operator
│   ├── DataDirInUse     another process owns it
│   ├── FormatUnreadable not ours, newer than this release, or made for another architecture or page size
│   ├── StoreDamaged     its own records do not agree with their checksums or with each other
│   └── BackupDamaged    a backup that is cut short, does not match its checksums, or is none
├── StoreFull            ENOSPC: no room on the disk or in the map; nothing was changed
├── StoreFailed          EIO: the disk failed or bytes do not match their checksum; nothing was changed
├── AccountsUnreachable  EIO: the database of the accounts does not answer; it may do so later
└── AccountError
    ├── AccountExists    EEXIST: the uid is taken
    ├── AccountInvalid   EINVAL: a uid, gid, name, scope, time or quota that cannot be
    ├── AccountUnknown   ENOENT: no such uid, or not one of the group
    ├── GroupExists      EEXIST: the gid is taken
    ├── GroupInUse       EBUSY: it is the primary group of an account
    ├── GroupUnknown     ENOENT: no such gid
    └── TokenUnknown     ENOENT: no such token id
"""


class StoreError(Exception):
    """Root of all errors that the store raises on purpose. The message is a single line."""


class StoreUnusable(StoreError):
    """The data directory cannot be opened."""


class DataDirInUse(StoreUnusable):
    """Another process, or another store of this process, holds the directory's lock."""


class FormatUnreadable(StoreUnusable):
    """The directory's format is unknown, newer, or belongs to another architecture or page size."""


class StoreDamaged(StoreUnusable):
    """The records needed to open the store are damaged."""


class BackupDamaged(StoreUnusable):
    """A file is no backup, not a whole one, or not of this format."""


class StoreFull(StoreError):
    """No space is left (errno ENOSPC). Nothing was changed; later commits work again once there is space."""

    errno = "ENOSPC"


class StoreFailed(StoreError):
    """The disk failed, or stored bytes do not match their checksum (errno EIO). Nothing was changed.

    `object_id` and `page` name what could not be read, when the failure concerns one page.
    """

    errno = "EIO"

    def __init__(self, message: str, *, object_id: int | None = None, page: int | None = None) -> None:
        super().__init__(message)
        self.object_id = object_id
        self.page = page


class RowDamaged(Exception):
    """A stored row does not match its checksum or its layout. Internal: callers raise a StoreError naming the row."""


class AccountsUnreachable(StoreError):
    """The database of the accounts does not answer (errno EIO). A later try may succeed.

    A change is whole or absent; only if the connection broke while it was committed may it have been made.
    """

    errno = "EIO"


class AccountError(StoreError):
    """Root of the errors of accounts, groups and tokens."""

    errno: str


class AccountExists(AccountError):
    """An account with this uid exists."""

    errno = "EEXIST"


class AccountInvalid(AccountError):
    """A uid, a gid, a name, a scope, a time or a limit is out of its range."""

    errno = "EINVAL"


class AccountUnknown(AccountError):
    """No account has this uid, or it is not in the group."""

    errno = "ENOENT"


class GroupExists(AccountError):
    """A group with this gid exists."""

    errno = "EEXIST"


class GroupInUse(AccountError):
    """The group is the primary group of an account."""

    errno = "EBUSY"


class GroupUnknown(AccountError):
    """No group has this gid."""

    errno = "ENOENT"


class TokenUnknown(AccountError):
    """No token has this id."""

    errno = "ENOENT"
