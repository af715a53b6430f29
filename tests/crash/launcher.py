"""Runs a script after having its calls watched: `launcher.py SOCKET MODULE SCRIPT [ARGUMENT …]`.

MODULE is imported before, unwatched and therefore faster; it may be empty.
"""

import importlib
import os
import runpy
import socket
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[2])
from tests.crash.below import NUMBERS, install


def main() -> None:
    """Hand the descriptor over, then be the script."""
    if sys.argv[2]:
        importlib.import_module(sys.argv[2])
    connection = socket.socket(fileno=int(sys.argv[1]))
    try:
        listener = install(list(NUMBERS))
    except OSError:
        sys.exit(1)
    with connection:
        socket.send_fds(connection, [b"x"], [listener])
    os.close(listener)
    sys.argv = sys.argv[3:]
    runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
