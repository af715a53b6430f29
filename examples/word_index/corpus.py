"""The text that the demo indexes: the source of Python's own standard library."""

import re
import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

WORD = re.compile(rb"\b[A-Za-z_][A-Za-z0-9_]{2,}\b")
CORPUS_BYTES_MAX = 12_000_000
SKIPPED_FOLDERS = frozenset({"site-packages", "dist-packages", "test", "tests", "__pycache__", "lib2to3"})


def read_corpus() -> dict[str, bytes]:
    """File name (relative to the library's folder) → its text; the same files in the same order every time."""
    library = Path(sysconfig.get_paths()["stdlib"])
    texts: dict[str, bytes] = {}
    size = 0
    for path in sorted(library.rglob("*.py")):
        name = path.relative_to(library)
        if SKIPPED_FOLDERS.isdisjoint(name.parts) and size < CORPUS_BYTES_MAX:
            texts[str(name)] = path.read_bytes()
            size += len(texts[str(name)])
    return texts


def count_words(texts: dict[str, bytes]) -> Iterator[tuple[str, Counter[bytes]]]:
    """For each file: how often each of its words occurs in it."""
    for name, text in texts.items():
        yield name, Counter(WORD.findall(text))


def count_directly(texts: dict[str, bytes], word: bytes) -> dict[str, int]:
    """The answer by brute force: go through all text once and count one word per file."""
    pattern = re.compile(rb"\b" + re.escape(word) + rb"\b")
    found = {name: len(pattern.findall(text)) for name, text in texts.items() if word in text}
    return {name: count for name, count in found.items() if count}
