"""How the demo prints: chapters, what took how long, commands with their output, answers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e6:.1f} MB"


class Story:
    """Prints as it goes and keeps the times for the last lines."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.chapters = 0
        self.answers = 0
        self.times: dict[str, float] = {}

    def chapter(self, title: str) -> None:
        """A numbered heading."""
        self.chapters += 1
        print(f"\n{self.chapters}. {title}", flush=True)

    def say(self, text: str) -> None:
        """One sentence of the story."""
        print(f"   {text}", flush=True)

    def show_command(self, command: str, output: str) -> None:
        """A command and its output, indented; JSON in short lines is left as it came."""
        print(f"   $ {command}")
        for line in output.rstrip().splitlines():
            print(f"     {line}")

    @contextmanager
    def timed(self, what: str, key: str = "") -> Iterator[None]:
        """Print how long the block took; kept under `key` for the end."""
        started = time.perf_counter()
        yield
        took = time.perf_counter() - started
        if key:
            self.times[key] = took
        print(f"   {took:7.3f} s  {what}", flush=True)

    def table(self) -> None:
        """The heading above answers."""
        print(
            f"   {'word':10} {'occurs':>7} {'files':>6}  {'most often in':28} {'requests':>8} {'asked':>9} {'counted':>9}"
        )

    def answer(self, word: str, found: dict[str, int], requests: int, asking: float, counting: float) -> None:
        """One answered question, with the times for asking the index and for counting in the text."""
        self.answers += 1
        most = max(found, key=lambda name: (found[name], name), default="")
        times = f"{asking * 1e3:6.1f} ms {counting * 1e3:6.1f} ms"
        print(
            f"   {word:10} {sum(found.values()):7} {len(found):6}  {most:28} {requests:8} {times}  equal",
            flush=True,
        )

    def close(self) -> None:
        """The last lines."""
        print(
            f"\n{self.answers} answers, none wrong. The service died twice; starting it again took "
            f"{self.times['restart']:.2f} s, opening the index {self.times['open'] * 1e3:.1f} ms.\n"
            f"Nothing was loaded, parsed or rebuilt. The whole demo took {time.perf_counter() - self.started:.1f} s."
        )
