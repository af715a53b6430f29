"""The index as it lies in memory: records that point to each other by absolute address.

    header ──▶ bucket table ──▶ entry ──next──▶ entry ──next──▶ 0
               one pointer         │
               per bucket          └─▶ block ──next──▶ block ──next──▶ 0
                                         │ (file, count), (file, count), …
                                         └─▶ name of the file

Every arrow is a 64-bit virtual address of the space, as a C program would store it, and not an
offset that a reader would have to add up. That works because the segment is at the same address
for everyone, always.
"""

import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable

MAGIC = b"WORDS\0\0\1"
HEADER = struct.Struct(
    "<8sQQQQQQ"
)  # magic, first free address, address of the table, buckets, words, files, occurrences
POINTER = struct.Struct("<Q")
ENTRY = struct.Struct("<QQQQQ")  # next entry, first block, occurrences, files, length of the word; the word
BLOCK = struct.Struct("<QQ")  # next block, number of pairs; the pairs: (address of the file's name, count)
LENGTH = struct.Struct("<Q")  # length of a file's name; the name
PAIRS_PER_BLOCK = 62  # a full block fills 1008 bytes


def bucket_of(word: bytes, buckets: int) -> int:
    """Which chain of the hash table a word belongs to."""
    return zlib.crc32(word) % buckets


class Arena:
    """Memory that fills from `base` upwards; `put` says at which address the record will be."""

    def __init__(self, base: int) -> None:
        self.base = base
        self.data = bytearray()

    def put(self, record: bytes) -> int:
        """Place a record at the next multiple of 8 and return its absolute address."""
        self.data += bytes(-len(self.data) % 8)
        address = self.base + len(self.data)
        self.data += record
        return address


def build(base: int, counts: Iterable[tuple[str, Counter[bytes]]]) -> bytes:
    """The whole index, laid out for the address `base`: the bytes to write there."""
    arena = Arena(base)
    arena.put(bytes(HEADER.size))  # filled in at the end, when the addresses are known
    postings: defaultdict[bytes, list[tuple[int, int]]] = defaultdict(list)
    files = 0
    for name, words in counts:
        encoded = name.encode()
        file_address = arena.put(LENGTH.pack(len(encoded)) + encoded)
        files += 1
        for word, count in words.items():
            postings[word].append((file_address, count))

    buckets = 1 << max(4, len(postings).bit_length())
    table = [0] * buckets
    for word, pairs in postings.items():
        first_block = put_blocks(arena, pairs)
        occurrences = sum(count for _, count in pairs)
        bucket = bucket_of(word, buckets)
        entry = ENTRY.pack(table[bucket], first_block, occurrences, len(pairs), len(word))
        table[bucket] = arena.put(entry + word)  # the newest entry heads the chain

    table_address = arena.put(struct.pack(f"<{buckets}Q", *table))
    total = sum(count for pairs in postings.values() for _, count in pairs)
    end = base + len(arena.data)
    HEADER.pack_into(arena.data, 0, MAGIC, end, table_address, buckets, len(postings), files, total)
    return bytes(arena.data)


def put_blocks(arena: Arena, pairs: list[tuple[int, int]]) -> int:
    """A chain of blocks that holds the pairs in order; returns the address of the first."""
    following = 0
    for start in reversed(range(0, len(pairs), PAIRS_PER_BLOCK)):  # from the end: each knows its successor
        part = pairs[start : start + PAIRS_PER_BLOCK]
        numbers = [number for pair in part for number in pair]
        following = arena.put(BLOCK.pack(following, len(part)) + struct.pack(f"<{len(numbers)}Q", *numbers))
    return following


def link_word(header: bytes, base: int, chain: int, word: bytes, name: str, count: int) -> dict[int, bytes]:
    """What to write where to add a word that occurs in one new file. `chain` is what the word's bucket points to.

    The records go to free memory; the header and the bucket's pointer change. All of it must happen or none.
    """
    magic, end, table, buckets, words, files, occurrences = HEADER.unpack(header)
    arena = Arena(end + -end % 8)
    encoded = name.encode()
    file_address = arena.put(LENGTH.pack(len(encoded)) + encoded)
    block = put_blocks(arena, [(file_address, count)])
    entry = arena.put(ENTRY.pack(chain, block, count, 1, len(word)) + word)
    free = arena.base + len(arena.data)
    return {
        arena.base: bytes(arena.data),
        table + POINTER.size * bucket_of(word, buckets): POINTER.pack(entry),
        base: HEADER.pack(magic, free, table, buckets, words + 1, files + 1, occurrences + count),
    }
