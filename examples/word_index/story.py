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

    def answer(self, word: str, found: dict[str, int], took: float, requests: int, counting: float) -> None:
        """One answered question."""
        self.answers += 1
        top = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:2]
        where = ", ".join(f"{name} {count}" for name, count in top) or "nowhere"
        print(
            f"   {word:10} {sum(found.values()):6} times in {len(found):4} files ({where}); "
            f"{requests} requests, {took * 1e3:.1f} ms; counted directly in {counting * 1e3:.0f} ms: equal",
            flush=True,
        )

    def close(self) -> None:
        """The last lines."""
        again = self.times["restart"] + self.times["open"]
        print(
            f"\n{self.answers} answers, none wrong. Building the index took {self.times['build']:.2f} s; having it back "
            f"after SIGKILL took {again:.2f} s,\nnearly all of it the start of the service. "
            f"Whole demo: {time.perf_counter() - self.started:.1f} s."
        )
