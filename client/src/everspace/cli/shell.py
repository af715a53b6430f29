"""What every command has: a client, and a way to print for people or for programs."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from inspect import Parameter, signature
from types import TracebackType
from typing import Annotated, Any, Concatenate, ParamSpec, Self

import typer

import everspace
from everspace.cli.values import Which

P = ParamSpec("P")
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="Where the service is. [EVERSPACE_URL, http://127.0.0.1:8765]",
        show_default=False,
    ),
]
Token = Annotated[
    str | None,
    typer.Option("--token", metavar="TOKEN", help="Who you are. [EVERSPACE_TOKEN]", show_default=False),
]
Ca = Annotated[
    str | None,
    typer.Option(
        "--ca", metavar="FILE", help="Whom to trust, with https. [EVERSPACE_CA]", show_default=False
    ),
]
Cert = Annotated[
    str | None,
    typer.Option(
        "--cert", metavar="FILE", help="Who you are, with https. [EVERSPACE_CERT]", show_default=False
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key", metavar="FILE", help="The key of that certificate. [EVERSPACE_KEY]", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.", show_default=False)]


@dataclass(frozen=True, slots=True)
class Common:
    """The options that every command takes, before its name; --url, --token and --json also after it."""

    url: str | None = None
    token: str | None = None
    json: bool = False
    ca: str | None = None
    cert: str | tuple[str, str] | None = None


class Shell:
    """A command's client and output. Connects when first asked to."""

    def __init__(self, common: Common) -> None:
        self.json = common.json
        self._common = common
        self._client: everspace.Client | None = None

    @property
    def client(self) -> everspace.Client:
        """The client of this command."""
        if self._client is None:
            told = self._common
            self._client = everspace.connect(told.url, told.token, ca=told.ca, cert=told.cert)
        return self._client

    def space(self, which: Which) -> everspace.Space:
        """The space of an id or name."""
        return self.client.spaces.find(which.name) if which.id is None else self.client.spaces.get(which.id)

    def segment(self, which: Which) -> everspace.Segment:
        """The segment of an id or name."""
        return (
            self.client.segments.find(which.name) if which.id is None else self.client.segments.get(which.id)
        )

    def say(self, text: str, value: Any) -> None:
        """One result: a line for people, an object for programs."""
        self.write(json.dumps(value) if self.json else text)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], items: Sequence[Any]) -> None:
        """Many results: aligned columns (">" before a name: to the right), or a JSON list."""
        if self.json:
            self.write(json.dumps(list(items)))
            return
        from rich.cells import cell_len

        right = [name.startswith(">") for name in header]
        lines = [[name.removeprefix(">") for name in header], *rows]
        widths = [max(cell_len(line[column]) for line in lines) for column in range(len(header))]
        for line in lines:
            cells = []
            for cell, width, flush in zip(line, widths, right, strict=True):
                gap = " " * (width - cell_len(cell))
                cells.append(gap + cell if flush else cell + gap)
            self.write("  ".join(cells).rstrip())

    def write(self, text: str) -> None:
        """A line on standard output; what the terminal's encoding lacks is escaped."""
        encoding = sys.stdout.encoding or "utf-8"
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            self._client.close(exit_tasks=False)


def command(
    group: typer.Typer, name: str
) -> Callable[[Callable[Concatenate[Shell, P], None]], Callable[Concatenate[Shell, P], None]]:
    """Register a function `(shell, ...)` as a command, with --url, --token and --json added to its options."""

    def register(function: Callable[Concatenate[Shell, P], None]) -> Callable[Concatenate[Shell, P], None]:
        def run(
            ctx: typer.Context,
            url: str | None,
            token: str | None,
            as_json: bool,
            *args: P.args,
            **kwargs: P.kwargs,
        ) -> None:
            before = ctx.find_root().obj
            common = before if isinstance(before, Common) else Common()
            common = replace(
                common, url=url or common.url, token=token or common.token, json=as_json or common.json
            )
            with Shell(common) as shell:
                function(shell, *args, **kwargs)

        own = list(signature(function, eval_str=True).parameters.values())[1:]
        added = {"url": Url, "token": Token, "as_json": Json}
        defaults: dict[str, Any] = {"url": None, "token": None, "as_json": False}
        parameters = [
            Parameter("ctx", Parameter.KEYWORD_ONLY, annotation=typer.Context),
            *(parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in own),
            *(
                Parameter(option, Parameter.KEYWORD_ONLY, default=defaults[option], annotation=kind)
                for option, kind in added.items()
            ),
        ]
        run.__signature__ = signature(function).replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        run.__name__, run.__doc__ = function.__name__, function.__doc__
        group.command(name)(run)
        return function

    return register
