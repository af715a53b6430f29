"""`everspaced serve`, whose opening waits at a named pipe: python -m tests.e2e.held_opening DATA_DIR PORT PIPE [FAILURE].

It goes on when somebody has opened the pipe for writing and closed it; with FAILURE it then fails with that message.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from app import cli
from app.commands import serve
from app.gate import Gate
from app.main import create_app
from app.serving.metrics import Metrics
from app.settings import Settings
from storage.errors import StoreUnusable


def main() -> int:
    data_dir, port, pipe, *failure = sys.argv[1:]
    settings = Settings(data_dir=Path(data_dir), port=int(port), shutdown_grace=5)

    def opener(metrics: Metrics, go_on: Callable[[], None]) -> Gate:
        Path(pipe).read_bytes()
        if failure:
            raise StoreUnusable(failure[0])
        return create_app(settings, metrics=metrics, go_on=go_on)

    def run(_: object) -> int:
        serve.serve(settings, opener)
        return 0

    serve.run = run  # type: ignore[assignment]
    sys.argv = ["everspaced", "serve", "--data-dir", data_dir]
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
