"""The command line tool `everspace`: one module per command group, all over the public SDK."""

import sys


def main() -> None:
    """The console script. Leaves with 0 done, 1 the call was refused, 2 bad usage, 3 the service cannot be reached."""
    try:
        import rich
        import typer
    except ModuleNotFoundError as missing:
        sys.stderr.write(f"everspace: {missing.name} is missing; the fix: pip install 'everspace[cli]'\n")
        sys.exit(2)
    del rich, typer
    from everspace.cli.app import run

    sys.exit(run(sys.argv[1:]))
