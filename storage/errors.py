"""Every error of the store.

StoreError
├── StoreUnusable        a data directory that cannot be opened at all; the message is one line for the operator
│   ├── DataDirInUse     another process owns it
│   ├── FormatUnreadable not ours, newer than this release, or made for another architecture or page size
│   └── StoreDamaged     its own records do not agree with their checksums or with each other
├── StoreFull            ENOSPC: no room on the disk or in the map; nothing was changed
├── StoreFailed          EIO: the disk failed or bytes do not match their checksum; nothing was changed
└── AccountError
    ├── AccountExists    the uid is taken
    ├── AccountInvalid   a uid, gid or name that cannot be
    ├── AccountUnknown   no such uid
    └── TokenUnknown     no such token id
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


class AccountError(StoreError):
    """Root of the errors of accounts and tokens."""


class AccountExists(AccountError):
    """An account with this uid exists."""


class AccountInvalid(AccountError):
    """A uid, a gid or a name is out of its range."""


class AccountUnknown(AccountError):
    """No account has this uid."""


class TokenUnknown(AccountError):
    """No token has this id."""
