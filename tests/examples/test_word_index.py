"""The word index of the demo, over plain bytes in place of a service."""

from collections import Counter

import pytest

from examples.word_index.corpus import count_directly, count_words
from examples.word_index.layout import HEADER, PAIRS_PER_BLOCK, POINTER, build, link_word
from examples.word_index.reader import Reads, WordIndex

BASE = 0x2000_0000_0000
TEXTS = {
    "a.py": b"def walk(self): return self.walk_on  # self, 0x1self and walk2",
    "lib/b.py": b"class Walk: pass\nself = walk = None",
    "empty.py": b"",
} | {f"many/{number:03}.py": b"common " * (number + 1) for number in range(2 * PAIRS_PER_BLOCK + 1)}


def open_index(image: bytes, base: int = BASE) -> WordIndex:
    padded = image + bytes(4096)

    def read_many(reads: Reads) -> list[bytes]:
        return [padded[address - base : address - base + length] for address, length in reads]

    return WordIndex(base, read_many)


@pytest.fixture
def index() -> WordIndex:
    return open_index(build(BASE, count_words(TEXTS)))


@pytest.mark.parametrize(
    "word", [b"self", b"walk", b"Walk", b"walk_on", b"common", b"class", b"absent", b"wal"]
)
def test_the_index_answers_as_a_direct_count(index: WordIndex, word: bytes) -> None:
    assert index.find(word) == count_directly(TEXTS, word)


def test_many_walks_in_step_answer_as_each_alone(index: WordIndex) -> None:
    words = [b"self", b"common", b"absent", b"return", b"pass"]
    assert index.find_all(words) == [index.find(word) for word in words]


def test_a_walk_in_step_costs_as_many_requests_as_the_longest(index: WordIndex) -> None:
    index.find_all([b"common"] * 50)
    assert index.requests == 1 + 1 + 3 + 1  # bucket, entry, three blocks, names
    assert index.reads > 50 * 5


def test_the_header_counts_what_was_indexed(index: WordIndex) -> None:
    words = sum((counts for _, counts in count_words(TEXTS)), Counter[bytes]())
    assert (index.files, index.words, index.occurrences) == (len(TEXTS), len(words), words.total())


def test_a_wrong_address_is_no_index() -> None:
    with pytest.raises(ValueError, match="no word index"):
        open_index(bytes(4096))


def test_the_same_text_gives_the_same_bytes() -> None:
    assert build(BASE, count_words(TEXTS)) == build(BASE, count_words(TEXTS))


def test_a_word_linked_in_later_is_found_beside_its_neighbours() -> None:
    image = bytearray(build(BASE, count_words(TEXTS)) + bytes(4096))
    index = open_index(bytes(image))
    words = [f"new_{number}".encode() for number in range(40)]
    for word in words:
        header = bytes(image[: HEADER.size])
        bucket = index.bucket(word) - BASE
        [chain] = POINTER.unpack_from(image, bucket)
        for address, record in link_word(header, BASE, chain, word, "new.py", 3).items():
            image[address - BASE : address - BASE + len(record)] = record
    grown = open_index(bytes(image))
    assert grown.find_all(words) == [{"new.py": 3}] * len(words)
    assert grown.find(b"common") == count_directly(TEXTS, b"common")
    assert (grown.words, grown.occurrences) == (index.words + 40, index.occurrences + 120)
