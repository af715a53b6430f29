"""All commands together, and what their errors look like from outside."""

import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer

import everspace
from everspace.cli import hexdump, task, transfer, vas
from everspace.cli.account import account
from everspace.cli.audit import audit
from everspace.cli.events import events
from everspace.cli.maps import maps
from everspace.cli.shell import Ca, Cert, Common, Json, Key, Token, Url, command

DONE: Final = 0
REFUSED: Final = 1
BAD_USAGE: Final = 2
UNREACHABLE: Final = 3
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

app = typer.Typer(
    help="Everspace: address spaces that outlive processes and restarts.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(vas.group, name="vas")
app.add_typer(transfer.group, name="seg")
app.add_typer(task.group, name="task")
app.add_typer(hexdump.group, name="hexdump")
command(app, "maps")(maps)
command(app, "events")(events)
command(app, "account")(account)
command(app, "audit")(audit)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"everspace {everspace.__version__}\n")
        raise typer.Exit


@app.callback()
def common(
    ctx: typer.Context,
    url: Url = None,
    token: Token = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    as_json: Json = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version.", show_default=False
        ),
    ] = False,
) -> None:
    """Everspace: address spaces that outlive processes and restarts."""
    if key is not None and cert is None:
        raise ValueError("--key has no meaning without --cert")
    ctx.obj = Common(url, token, as_json, ca, (cert, key) if cert is not None and key is not None else cert)


def run(arguments: Sequence[str]) -> int:
    """Run one command; the exit status."""
    try:
        status = app(list(arguments) or ["--help"], prog_name="everspace", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as mistake:
        return _complain(mistake.format_message().removesuffix("."), BAD_USAGE)
    except (everspace.TransportError, everspace.ServiceUnavailable) as error:
        return _complain(str(error), UNREACHABLE)
    except everspace.AuthenticationError as error:
        return _complain(f"{error} (give --token or EVERSPACE_TOKEN)", REFUSED)
    except everspace.VasError as error:
        return _complain(str(error), REFUSED)
    except (BrokenPipeError, SystemExit):  # typer itself exits when a write meets a closed pipe
        return _drop_output()
    except OSError as error:
        return _complain(f"{errno.errorcode.get(error.errno or 0, 'error')}: {_reason(error)}", REFUSED)
    except ValueError as mistake:
        return _complain(str(mistake), BAD_USAGE)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return status if isinstance(status, int) else DONE


def _complain(text: str, status: int) -> int:
    """One line on standard error."""
    line = " ".join(text.replace("Value error, ", "").split())
    sys.stderr.write(f"everspace: {line[:1].lower() + line[1:] if status == BAD_USAGE else line}\n")
    return status


def _reason(error: OSError) -> str:
    text = (error.strerror or str(error)).lower()
    return f"{error.filename}: {text}" if error.filename else text


def _drop_output() -> int:
    """Whoever read our output has gone: say nothing, not even when Python flushes at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    return BROKEN_PIPE
