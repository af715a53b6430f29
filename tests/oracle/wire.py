"""Values through a pipe: marshalled, with their length before them."""

import marshal
from typing import IO, Any


def send(stream: IO[bytes], value: Any) -> None:
    """Write one value."""
    data = marshal.dumps(value)
    stream.write(len(data).to_bytes(8, "little") + data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read one value; EOFError when the other side has gone."""
    head = stream.read(8)
    if len(head) < 8:
        raise EOFError("the kernel's side has ended")
    return marshal.loads(stream.read(int.from_bytes(head, "little")))
