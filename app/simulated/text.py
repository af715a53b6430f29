"""Table 1 for people, in columns and bars of ASCII, and for programs, as one JSON value."""

from collections.abc import Sequence
from typing import Any, Final

from engine.simulated.costs import DEFAULTS, Bill, SimTime, Work
from engine.simulated.table1 import SEED, SHOT_PAGES, Attaching, Compared, Figure, Switching, Table

BAR_WIDTH: Final = 48
BAR_COUNTS: Final = (2, 16, 32, 256)
"""Numbers of spaces whose switches are drawn."""
NOTE: Final = (
    "Every figure is in simulated ns: what the engine did, times a table of costs. Nothing was measured, except what\n"
    "the columns called RFC repeat (cover letter of March 2017: Xeon E5620 at 2.40 GHz, Linux 4.11).\n"
)


def render(table: Table) -> str:
    """Everything, as it is printed."""
    parts = [
        NOTE,
        _comparison(table.compared),
        _switching(table),
        _attaching(table.attaching),
        _unmapping(table),
        _bars(table),
        _changed(table),
    ]
    return "\n".join(part for part in parts if part)


def as_json(table: Table) -> dict[str, Any]:
    """The same figures; every time is in simulated ns."""
    hardware = table.hardware
    return {
        "unit": "simulated ns",
        "hardware": {
            "tlb_entries": hardware.tlb_entries,
            "ways": hardware.ways,
            "tags": hardware.tags,
            "few_tags": table.few_tags,
        },
        "costs": table.costs.as_dict(),
        "table1": [
            {
                "what": row.what,
                "space": _figure(row.space),
                "process": _figure(row.process),
                "measured_by_the_rfc_ns": {who: SEED[row.what, who] for who in ("space", "process")},
            }
            for row in table.compared
        ],
        "switching": [
            {"spaces": row.spaces, "tags": row.tags, "switch": _figure(row.switch)} for row in table.switching
        ],
        "attaching": [
            {
                "regions": row.regions,
                "pages": row.pages,
                "switch": _figure(row.switch),
                "fork": _figure(row.fork),
                "lazy": {"attach": _figure(row.attach_lazy), "use": _figure(row.use_lazy)},
                "eager": {"attach": _figure(row.attach_eager), "use": _figure(row.use_eager)},
                "lazy_is_cheaper_below_pages": row.break_even,
            }
            for row in table.attaching
        ],
        "unmapping": [
            {"tasks": row.tasks, "tagged": _figure(row.tagged), "untagged": _figure(row.untagged)}
            for row in table.unmapping
        ],
    }


def series(table: Table) -> list[tuple[str, list[Switching]]]:
    """The rows of switching by number of tags, each with its name."""
    by_tags: dict[int, list[Switching]] = {}
    for row in table.switching:
        by_tags.setdefault(row.tags, []).append(row)
    return [(f"{tags} tags" if tags else "no tags", rows) for tags, rows in by_tags.items()]


def _figure(figure: Figure) -> dict[str, Any]:
    return {"ns": figure.each.ns, "times": figure.times, "done": _done(figure.bill)}


def _done(bill: Bill) -> dict[str, int]:
    return {work.value: count for work, count in sorted(bill.done.items())}


def _ns(figure: Figure) -> str:
    return str(figure.each.ns)


def _ratio(process: int, space: int) -> str:
    return f"{process / space:.2f}" if space else "-"


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose columns are as wide as they need to be; all but the first are right-aligned."""
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join(lines) + "\n"


def _comparison(compared: Sequence[Compared]) -> str:
    head = ("", "space", "process", "ratio", "RFC space", "RFC process", "RFC ratio")
    rows = []
    for row in compared:
        space, process = SEED[row.what, "space"], SEED[row.what, "process"]
        ours = (_ns(row.space), _ns(row.process), _ratio(row.process.each.ns, row.space.each.ns))
        rows.append((row.what, *ours, str(space), str(process), _ratio(process, space)))
    return (
        "Table 1. Spaces and processes, without tags (simulated ns); the costs are calibrated to these four figures\n\n"
        + columns(head, rows)
    )


def _switching(table: Table) -> str:
    named = series(table)
    head = ("spaces", *(name for name, _ in named), *(f"flushes, {name}" for name, _ in named))
    rows = []
    for rank, first in enumerate(named[0][1]):
        same = [rows_of[rank] for _, rows_of in named]
        rows.append((str(first.spaces), *(_ns(row.switch) for row in same), *(_flushes(row) for row in same)))
    return (
        "Tags. A thread goes round so many spaces: a switch and the three pages it then uses (simulated ns); flushes\n"
        "of the TLB in 100 switches\n\n" + columns(head, rows)
    )


def _flushes(row: Switching) -> str:
    return f"{100 * row.switch.bill.done.get(Work.TLB_FLUSH, 0) / row.switch.times:.1f}"


def _attaching(rows: Sequence[Attaching]) -> str:
    head = (
        "regions",
        "pages",
        "switch",
        "attach lazy",
        "attach eager",
        "use lazy",
        "use eager",
        "lazy pays below pages",
        "fork",
    )
    lines = [
        (
            str(row.regions),
            str(row.pages),
            *(_ns(f) for f in (row.switch, row.attach_lazy, row.attach_eager, row.use_lazy, row.use_eager)),
            str(row.break_even),
            _ns(row.fork),
        )
        for row in rows
    ]
    return (
        "Regions. Attaching a space of so many regions, then using each of its pages once; fork of a task with as many\n"
        "(simulated ns)\n\n" + columns(head, lines)
    )


def _unmapping(table: Table) -> str:
    head = ("tasks", "no tags", f"{table.hardware.tags} tags")
    rows = [(str(row.tasks), _ns(row.untagged), _ns(row.tagged)) for row in table.unmapping]
    return (
        f"Shootdown. munmap of {SHOT_PAGES} pages of a space that so many tasks have attached, each on its own CPU; all but\n"
        "the caller have left the space, but with tags their TLBs still know it (simulated ns)\n\n"
        + columns(head, rows)
    )


def _bars(table: Table) -> str:
    lines = ["Bars (simulated ns)", ""]
    for row in table.compared:
        lines += _group(row.what, [("space", row.space.each), ("process", row.process.each)])
    for count in BAR_COUNTS:
        found = [
            (name, row.switch.each)
            for name, rows_of in series(table)
            for row in rows_of
            if row.spaces == count
        ]
        lines += _group(f"{count} spaces", found, max(row.switch.each.ns for row in table.switching))
    for attach in table.attaching:
        both = [
            ("lazy", attach.attach_lazy.each + attach.use_lazy.each),
            ("eager", attach.attach_eager.each + attach.use_eager.each),
        ]
        lines += _group(f"attach, use {attach.pages} pages", both)
    return "\n".join(lines) + "\n"


def _group(title: str, bars: Sequence[tuple[str, SimTime]], top: int = 0) -> list[str]:
    """Bars on one scale from 0; `top` is the longest, by default the greatest of them."""
    top = max([top, *(time.ns for _, time in bars)]) or 1
    lines = []
    for rank, (name, time) in enumerate(bars):
        length = (time.ns * BAR_WIDTH + top // 2) // top
        lines.append(f"{title if rank == 0 else '':<22} {name:<10} |{'#' * length} {time.ns}")
    return lines


def _changed(table: Table) -> str:
    values = table.costs.as_dict()
    changed = [
        f"{cost.work} = {values[cost.work]} (default {cost.ns})"
        for cost in DEFAULTS
        if values[cost.work] != cost.ns
    ]
    return "Costs that are not the defaults: " + ", ".join(changed) + "\n" if changed else ""
