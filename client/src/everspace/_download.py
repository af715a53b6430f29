"""Where a download goes: a binary file that the caller has opened, or a path that is there only when all has come."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from everspace.transport import Sink


class Writes(Protocol):
    """A binary file, as far as it is needed."""

    def write(self, data: Any, /) -> object: ...


Target = str | os.PathLike[str] | Writes


@contextmanager
def sink_of(target: Target) -> Iterator[Sink]:
    """What takes the pieces. A file of that path is replaced at the end, and left alone if anything fails."""
    if not isinstance(target, str | os.PathLike):
        yield target.write
        return
    path = Path(target)
    if path.exists() and not path.is_file():  # a pipe, a device
        with path.open("wb") as opened:
            yield opened.write
        return
    with _beside(path) as file:
        try:
            yield file.write
            file.flush()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _beside(path: Path) -> IO[bytes]:
    """A new file in the same directory. An error names the path that was asked for."""
    import tempfile  # dear to import, and rarely needed

    try:
        return tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
