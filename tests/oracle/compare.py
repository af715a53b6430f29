"""Two runs of one sequence: whether they agree, the shortest sequence on which they do not, and how that is shown."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from tests.oracle.calls import CORE, HUGE, PAGE, SIGNATURES, Call, address_text
from tests.oracle.play import Record, Region, Step


def steps_of(calls: Sequence[Call]) -> list[Step]:
    """Calls as the worlds take them."""
    return [(call.name, call.args) for call in calls]


READ_WRITE = 3


@dataclass(frozen=True)
class Difference:
    """Where two runs of `calls` part: the first record that is not the same."""

    calls: Sequence[Call]
    kernel: Sequence[Record]
    engine: Sequence[Record]

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        remaining = iter(self.calls)
        nothing: Record = ("nothing more", 0, [])
        for kernel, engine in zip_longest(self.kernel, self.engine, fillvalue=nothing):
            if kernel[0] != engine[0]:
                yield f"  kernel: {kernel[0]} = {answer_text(kernel[1])}"
                yield f"  engine: {engine[0]} = {answer_text(engine[1])}"
                return
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


Differs = Callable[[Sequence[Call]], Difference | None]


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


def shrink(found: Difference, differs: Differs) -> Difference:
    """Leave calls out and make arguments plainer while the two still differ."""
    best, before = found, None
    while before is not best:
        before = best
        best = with_plainer_args(with_fewer_calls(best, differs), differs)
    return best


def with_fewer_calls(best: Difference, differs: Differs) -> Difference:
    """Leave out as many calls as possible, many at once first."""
    size = len(best.calls) // 2
    while size:
        start = len(best.calls) - size
        while start >= 0:
            smaller = differs([*best.calls[:start], *best.calls[start + size :]])
            best = smaller or best
            start -= size
        size //= 2
    return best


def with_plainer_args(best: Difference, differs: Differs) -> Difference:
    """Make the arguments of each call as plain as possible."""
    for position in range(len(best.calls)):
        plainer: Difference | None = best
        while plainer is not None:
            best = plainer
            call = best.calls[position]
            tries = (
                differs([*best.calls[:position], Call(call.name, args), *best.calls[position + 1 :]])
                for args in simpler_args(call)
            )
            plainer = next((found for found in tries if found is not None), None)
    return best


def simpler_args(call: Call) -> Iterator[tuple[int, ...]]:
    """The same call with one argument made plainer."""
    for index, (name, value) in enumerate(zip(SIGNATURES[call.name], call.args, strict=True)):
        for plainer in plainer_values(call.name, name, value):
            yield (*call.args[:index], plainer, *call.args[index + 1 :])


def plainer_values(call: str, name: str, value: int) -> Iterator[int]:
    """Values that are plainer than `value`; no value is plainer than itself by any way."""
    match name:
        case "tag":
            yield from [1][: value > 1]
        case "length" if call in ("load", "store"):
            yield from [1][: value > 1]
        case "length" | "old_size" | "new_size":
            yield from plainer_sizes(value)
        case "prot" if call == "mmap":
            yield from [READ_WRITE][: value != READ_WRITE]
        case "flags" | "prot":
            keep = 0x33 if call == "mmap" else 0
            bits = [1 << at for at in range(value.bit_length())]
            yield from (value & ~bit for bit in bits if value & bit and not bit & keep)
        case "addr" | "old_addr" | "new_addr" if value >= CORE and value % PAGE:
            yield value // PAGE * PAGE
        case _:
            return


def plainer_sizes(value: int) -> list[int]:
    """Whole pages, and fewer of them. Between nonsense and a page there is nothing that is harmless everywhere."""
    if value >= HUGE:
        return [PAGE]
    rounded = [-(-value // PAGE) * PAGE] if value % PAGE else []
    return rounded + [size for size in (PAGE, value // 2 // PAGE * PAGE, value - PAGE) if 0 < size < value]
