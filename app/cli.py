"""`everspaced`: the administrator's command. A bad option is one line on standard error and status 2.

A command imports what it works with when it runs: the service and its libraries take longer to load than most
commands take to run.
"""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from app.commands import (
    account,
    audit,
    backup,
    compact,
    fsck,
    group,
    migrate,
    quota,
    restore,
    serve,
    simulate,
    statistics,
    token,
)
from storage.errors import AccountError, AccountInvalid, StoreError

Run = Callable[[argparse.Namespace], int]

COMMANDS = (
    serve,
    account,
    group,
    token,
    quota,
    audit,
    backup,
    restore,
    fsck,
    compact,
    migrate,
    statistics,
    simulate,
)


class BadOptionError(Exception):
    """The message is one line."""


class Parser(argparse.ArgumentParser):
    """argparse without usage on errors, without abbreviations, and without exits of its own."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options, allow_abbrev=False)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """A bad option."""
        raise BadOptionError(f"{message} (see {self.prog} --help)")


class Version(argparse.Action):
    """Tells the release, and is done."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Read only now: that takes longer than reading a command line."""
        from importlib.metadata import version

        sys.stdout.write(f"{parser.prog} {version('everspace-server')}\n")
        parser.exit()


def parser() -> Parser:
    """All commands and their options."""
    top = Parser(prog="everspaced", description="The Everspace service and its administration.")
    top.add_argument("--version", action=Version, nargs=0, help="print the release")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for command in COMMANDS:
        command.add_to(commands)
    return top


def main() -> int:
    """Run the command line. 0: done; 1: it could not be done; 2: bad option or data directory that cannot be used."""
    try:
        arguments = parser().parse_args()
        run: Run = arguments.run
        return run(arguments)
    except (AccountInvalid, BadOptionError) as error:
        return _complain(error, 2)
    except AccountError as error:
        return _complain(error, 1)
    except StoreError as error:
        return _complain(error, 2)
    except BrokenPipeError:
        sys.stdout = None  # the reader has left: nobody to tell
        return 1
    except OSError as error:
        place = "" if error.filename is None else f"{error.filename}: "
        return _complain(f"{place}{error.strerror or error}", 2)


def _complain(error: Exception | str, status: int) -> int:
    line = " ".join(str(error).split())
    sys.stderr.write(f"everspaced: {line}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
