"""Answering questions by following the pointers, with no part of the index held here.

A walk is a generator: it yields the reads that it wants next, as (address, length) pairs, and is sent
their bytes. It knows nothing of HTTP, so that the same walk can run alone, a read at a time, or a
thousand walks in step, one request for a step of all.
"""

import struct
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field

from examples.word_index.layout import (
    BLOCK,
    ENTRY,
    HEADER,
    LENGTH,
    MAGIC,
    PAIRS_PER_BLOCK,
    POINTER,
    bucket_of,
)

Reads = list[tuple[int, int]]
Walk = Generator[Reads, list[bytes], dict[str, int]]
NAME_BYTES_MAX = 240


@dataclass
class WordIndex:
    """The index at `base`. `read_many` reads several pieces of memory, in one request if it can."""

    base: int
    read_many: Callable[[Reads], list[bytes]]
    reads: int = 0
    requests: int = 0
    names: dict[int, str] = field(default_factory=dict)
    table: int = 0
    buckets: int = 0
    words: int = 0
    files: int = 0
    occurrences: int = 0

    def __post_init__(self) -> None:
        [header] = self.read_many([(self.base, HEADER.size)])
        magic, _, self.table, self.buckets, self.words, self.files, self.occurrences = HEADER.unpack(header)
        if magic != MAGIC:
            raise ValueError(f"no word index at {self.base:#x}")

    def find(self, word: bytes) -> dict[str, int]:
        """File name → how often the word occurs in it; empty when it occurs nowhere."""
        return self.find_all([word])[0]

    def find_all(self, words: Sequence[bytes]) -> list[dict[str, int]]:
        """The answers for many words: all walks take their next step in one common request."""
        answers: list[dict[str, int]] = [{} for _ in words]
        walks = [(position, self.walk(word)) for position, word in enumerate(words)]
        steps = [(position, walk, next(walk)) for position, walk in walks]
        while steps:
            wanted = [read for _, _, reads in steps for read in reads]
            pieces = iter(self.read_many(wanted))
            self.reads += len(wanted)
            self.requests += 1
            following = []
            for position, walk, reads in steps:
                try:
                    following.append((position, walk, walk.send([next(pieces) for _ in reads])))
                except StopIteration as done:
                    answers[position] = done.value
            steps = following
        return answers

    def bucket(self, word: bytes) -> int:
        """Where the pointer is that a search for the word starts from."""
        return self.table + POINTER.size * bucket_of(word, self.buckets)

    def walk(self, word: bytes) -> Walk:
        """From the bucket along its chain to the word's entry, then along the entry's blocks."""
        [pointer] = yield [(self.bucket(word), POINTER.size)]
        [address] = POINTER.unpack(pointer)
        while address:
            [record] = yield [(address, ENTRY.size + len(word))]
            address, block, _, _, length = ENTRY.unpack_from(record)
            if length == len(word) and record[ENTRY.size :] == word:
                return (yield from self.walk_blocks(block))
        return {}

    def walk_blocks(self, address: int) -> Walk:
        """Along the chain of blocks; the names of the files are behind pointers too."""
        pairs: list[int] = []
        while address:
            [record] = yield [(address, BLOCK.size + 16 * PAIRS_PER_BLOCK)]
            address, count = BLOCK.unpack_from(record)
            pairs += struct.unpack_from(f"<{2 * count}Q", record, BLOCK.size)
        unknown = [file for file in pairs[::2] if file not in self.names]
        if unknown:
            records = yield [(file, LENGTH.size + NAME_BYTES_MAX) for file in unknown]
            for file, record in zip(unknown, records, strict=True):
                [length] = LENGTH.unpack_from(record)
                self.names[file] = record[LENGTH.size : LENGTH.size + length].decode()
        return {self.names[file]: count for file, count in zip(pairs[::2], pairs[1::2], strict=True)}
