"""The demo: build a word index inside a space, kill the service, and go on where it was."""

import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import everspace
from examples.service import Service
from examples.word_index.corpus import count_directly, count_words, read_corpus
from examples.word_index.layout import HEADER, POINTER, build, link_word
from examples.word_index.reader import Reads, WordIndex
from examples.word_index.story import Story, megabytes

ROOT = Path(__file__).parents[2]
SEGMENT_START = 0x2000_0000_0000
SEGMENT_BYTES = 64 << 20
PIECE_BYTES = 4 << 20  # one write, one transaction on stable storage
BATCH_READS = 4000
STORY_WORDS = [b"self", b"yield", b"socket", b"deadlock", b"Liskov", b"Everspace"]
RANDOM_WORDS = 2000


def main() -> None:
    """Tell the story from an empty folder to the last answer."""
    with tempfile.TemporaryDirectory(prefix="everspace-demo-") as folder:
        service = Service(Path(folder) / "data")
        story = Story()
        try:
            texts = read_corpus()
            fill(service, texts, story)
            kill_and_restart(service, story)
            ask(service, texts, story)
            add_a_word(service, texts, story)
            story.close()
        finally:
            service.stop()


def fill(service: Service, texts: dict[str, bytes], story: Story) -> None:
    """Start the service, make a space with a segment in it and put the index there."""
    story.chapter("A service, a space and a segment")
    with story.timed("service started"):
        pid = service.start()
    story.say(f"everspaced runs as process {pid} on {service.url}, its data directory is empty.")
    with everspace.connect(service.url, service.token) as client, client.spawn(name="indexer") as task:
        vid = task.vas_create("library", 0o640)
        sid = task.vas_seg_create("words", SEGMENT_START, SEGMENT_START + SEGMENT_BYTES, 0o640)
        task.vas_seg_attach(vid, sid, everspace.O_RDWR)
        task.vas_attach(0, vid, everspace.O_RDWR)
        task.vas_switch(vid)
        story.say(
            f"Space 'library' has id {vid}. Segment 'words' has id {sid} and always lies at {SEGMENT_START:#x}."
        )

        story.chapter("An index made of pointers")
        size = sum(map(len, texts.values()))
        story.say(f"Input: Python's own library, {len(texts)} files, {megabytes(size)}.")
        with story.timed("index laid out by the client"):
            image = build(SEGMENT_START, count_words(texts))
        with story.timed("index written into the segment, durable"):
            for offset in range(0, len(image), PIECE_BYTES):
                task.write(SEGMENT_START + offset, image[offset : offset + PIECE_BYTES])
        story.say(f"{megabytes(len(image))} of records hold each other by absolute 64-bit addresses.")
        story.show_command("everspace seg ls", service.everspace("seg", "ls"))
        story.show_command(f"everspace maps {task.pid}", service.everspace("maps", str(task.pid)))


def kill_and_restart(service: Service, story: Story) -> None:
    """SIGKILL and a new start. The client's copy of the index is gone since `fill` returned."""
    story.chapter("SIGKILL")
    service.kill()
    story.say("The service got no chance to write or to close anything. The task 'indexer' died with it.")
    with story.timed("service started again and ready", "restart"):
        pid = service.start()
    story.say(f"everspaced runs as process {pid} now. Plain HTTP, as curl would ask:")
    for path in ("/v1/vas?name=library", "/v1/segments?name=words", "/v1/vas/1/regions"):
        story.show_command(f"GET {path}", service.request("GET", path)[1])


@contextmanager
def index_of(client: everspace.Client, access: int) -> Iterator[tuple[everspace.Task, WordIndex]]:
    """A new task inside the space, and the index as it finds it there."""
    with client.spawn(name="reader") as task:
        vid = task.vas_find("library")
        task.vas_attach(0, vid, access)
        task.vas_switch(vid)

        def read_many(reads: Reads) -> list[bytes]:
            if len(reads) == 1:
                return [task.read(*reads[0])]
            pieces: list[bytes] = []
            for start in range(0, len(reads), BATCH_READS):
                with task.batch() as batch:
                    handles = [batch.read(*read) for read in reads[start : start + BATCH_READS]]
                pieces += [handle.result() for handle in handles]
            return pieces

        yield task, WordIndex(SEGMENT_START, read_many)


def ask(service: Service, texts: dict[str, bytes], story: Story) -> None:
    """Attach from a new task and follow the pointers. Every answer is checked against the text itself."""
    story.chapter("The same pointers, followed by a new task")
    with everspace.connect(service.url, service.token) as client, ExitStack() as stack:
        with story.timed("task made, space attached, header of the index read", "open"):
            task, index = stack.enter_context(index_of(client, everspace.O_RDONLY))
        story.say(f"It says: {index.words} words in {index.files} files, {index.occurrences} occurrences.")
        story.table()
        for word in STORY_WORDS:
            check(index, texts, word, story)
        check_many(index, texts, story)
        try:
            task.write(SEGMENT_START, b"scribble")
        except OSError as error:
            story.say(f"This task attached read-only, and a store is refused: {error}")
        story.show_command(
            f"everspace hexdump task {task.pid} {SEGMENT_START:#x} --length 56",
            service.everspace("hexdump", "task", str(task.pid), f"{SEGMENT_START:#x}", "--length", "56"),
        )


def add_a_word(service: Service, texts: dict[str, bytes], story: Story) -> None:
    """Link a new entry into the index in one atomic batch, and kill the service again."""
    story.chapter("One more word, and SIGKILL again")
    word, name = b"Everspace", "docs/architecture.md"
    texts[name] = (ROOT / name).read_bytes()
    [count] = count_directly({name: texts[name]}, word).values()
    with everspace.connect(service.url, service.token) as client:
        with index_of(client, everspace.O_RDWR) as (task, index):
            header, pointer = index.read_many(
                [(SEGMENT_START, HEADER.size), (index.bucket(word), POINTER.size)]
            )
            [chain] = POINTER.unpack(pointer)
            with (
                story.timed(f"'{word.decode()}' in {name} linked in by one atomic batch"),
                task.batch(atomic=True) as batch,
            ):
                for address, record in link_word(header, SEGMENT_START, chain, word, name, count).items():
                    batch.write(address, record)
        service.kill()
        with story.timed("service killed, started again and ready"):
            service.start()
        with index_of(client, everspace.O_RDONLY) as (_, index):
            story.table()
            for word in STORY_WORDS[-2:]:
                check(index, texts, word, story)


def check(index: WordIndex, texts: dict[str, bytes], word: bytes, story: Story) -> None:
    """One word, one pointer after the other; compared with counting through all the text."""
    requests = index.requests
    started = time.perf_counter()
    found = index.find(word)
    took = time.perf_counter() - started
    started = time.perf_counter()
    expected = count_directly(texts, word)
    counting = time.perf_counter() - started
    if found != expected:
        raise SystemExit(f"{word!r}: the index and the text disagree")
    story.answer(word.decode(), found, index.requests - requests, took, counting)


def check_many(index: WordIndex, texts: dict[str, bytes], story: Story) -> None:
    """Many words at once: the walks go in step and share their requests."""
    truth: dict[bytes, dict[str, int]] = {}
    for name, counts in count_words(texts):
        for word, count in counts.items():
            truth.setdefault(word, {})[name] = count
    words = random.Random(2026).sample(sorted(truth), RANDOM_WORDS)
    requests, reads = index.requests, index.reads
    with story.timed(f"{RANDOM_WORDS} random words looked up in step", "batch"):
        answers = index.find_all(words)
    if answers != [truth[word] for word in words]:
        raise SystemExit("the index and the text disagree")
    story.answers += RANDOM_WORDS
    story.say(
        f"{index.reads - reads} reads in {index.requests - requests} steps gave {RANDOM_WORDS} answers, "
        "each equal to a direct count over the text."
    )


if __name__ == "__main__":
    main()
