"""Two runs of one sequence: whether they agree, the shortest sequence on which they do not, and how that is shown."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.oracle.calls import CORE, PAGE, SIGNATURES, Call, address_text
from tests.oracle.play import Record, Region, Step

Runner = Callable[[Sequence[Step]], list[Record]]


def steps_of(calls: Sequence[Call]) -> list[Step]:
    """Calls as the worlds take them."""
    return [(call.name, call.args) for call in calls]


@dataclass(frozen=True)
class Difference:
    """Where two runs of `calls` part: the first record that is not the same."""

    calls: Sequence[Call]
    kernel: Sequence[Record]
    engine: Sequence[Record]

    @property
    def index(self) -> int:
        """Of the first record that differs."""
        pairs = zip(self.kernel, self.engine, strict=False)
        return next((i for i, (left, right) in enumerate(pairs) if left != right), len(self.kernel))

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        remaining = iter(self.calls)
        for kernel, engine in zip(self.kernel, self.engine, strict=False):
            what = str(next(remaining)) if kernel[0] in SIGNATURES else kernel[0]
            same = kernel[1] == engine[1]
            answers = answer_text(kernel[1]) if same else "DIFFERS"
            yield f"  {what} = {answers}"
            if not same:
                yield f"      kernel: {answer_text(kernel[1])}"
                yield f"      engine: {answer_text(engine[1])}"
            if kernel[2] != engine[2]:
                yield from side_by_side(kernel[2], engine[2])
            if kernel != engine:
                return
        yield f"  the kernel wrote {len(self.kernel)} records, the engine {len(self.engine)}"


def answer_text(answer: object) -> str:
    """An answer for people."""
    if isinstance(answer, int):
        return address_text(answer)
    if isinstance(answer, bytes):
        return answer.hex()
    if isinstance(answer, (list, tuple)):
        return "[" + ", ".join(answer_text(part) for part in answer) + "]"
    return str(answer)


def side_by_side(kernel: Sequence[Region], engine: Sequence[Region]) -> Iterator[str]:
    """Two maps, lines that differ marked."""
    left, right = ([region_text(region) for region in regions] for regions in (kernel, engine))
    yield f"      {'kernel':<22}  engine"
    rows = sorted({*kernel, *engine})
    for row in rows:
        text = region_text(row)
        mark = " " if row in kernel and row in engine else "!"
        yield f"    {mark} {text if text in left else '':<22}  {text if text in right else ''}".rstrip()


def region_text(region: Region) -> str:
    """Like "P3-P7 rw-p"."""
    start, end, rights = region
    return f"{address_text(start)}-{address_text(end)} {rights}"


def difference(calls: Sequence[Call], kernel: Runner, engine: Runner) -> Difference | None:
    """Run both."""
    steps = steps_of(calls)
    found = Difference(calls, kernel(steps), engine(steps))
    return None if found.kernel == found.engine else found


def shrink(found: Difference, kernel: Runner, engine: Runner) -> Difference:
    """Leave calls out and make arguments plainer while the two still differ."""
    best = found
    changed = True
    while changed:
        changed = False
        for candidate in simpler(best.calls):
            smaller = difference(candidate, kernel, engine)
            if smaller is not None:
                best, changed = smaller, True
                break
    return best


def simpler(calls: Sequence[Call]) -> Iterator[list[Call]]:
    """Sequences with less in them, the greatest steps first."""
    size = len(calls) // 2
    while size:
        for start in range(len(calls) - size, -1, -1):
            yield [*calls[:start], *calls[start + size :]]
        size //= 2
    for position, call in enumerate(calls):
        for args in simpler_args(call):
            yield [*calls[:position], Call(call.name, args), *calls[position + 1 :]]


def simpler_args(call: Call) -> Iterator[tuple[int, ...]]:
    """The same call with one argument made plainer."""
    for index, (name, value) in enumerate(zip(SIGNATURES[call.name], call.args, strict=True)):
        for plainer in plainer_values(call.name, name, value):
            yield (*call.args[:index], plainer, *call.args[index + 1 :])


def plainer_values(call: str, name: str, value: int) -> Iterator[int]:
    """Values that come before `value` in plainness."""
    match name:
        case "length" if call in ("load", "store"):
            if value > 1:
                yield 1
        case "length" | "old_size" | "new_size":
            if value % PAGE and value < 2**40:
                yield -(-value // PAGE) * PAGE
            for size in (PAGE, value // 2 // PAGE * PAGE, value - PAGE):
                if 0 < size < value:
                    yield size
        case "flags" | "prot":
            if call == "mmap" and name == "prot" and value != 3:
                yield 3
            bits = [1 << bit for bit in range(value.bit_length()) if value & 1 << bit]
            keep = 0x33 if call == "mmap" else 0
            yield from (value & ~bit for bit in bits if not bit & keep)
        case "addr" | "old_addr" | "new_addr" if value >= CORE:
            if value % PAGE:
                yield value // PAGE * PAGE
        case "tag":
            if value > 1:
                yield 1
        case _:
            return
