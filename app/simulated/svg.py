"""Table 1 as an SVG image of three panels, written by hand: no library for plots is needed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from math import ceil, floor, log10
from typing import Final

from app.simulated.text import series
from engine.simulated.table1 import SEED, Table

WIDTH: Final = 960
HEIGHT: Final = 820
BLUE: Final = "#0072B2"
ORANGE: Final = "#D55E00"
GREEN: Final = "#009E73"
PURPLE: Final = "#8A5A9E"
GREY: Final = "#5A5A5A"
_STYLE: Final = (
    "text{font-family:'DejaVu Sans',Verdana,Arial,sans-serif;font-size:13px;fill:#222}"
    ".title{font-size:15px;font-weight:bold}.head{font-size:18px;font-weight:bold}.small{font-size:11.5px;fill:#444}"
    ".middle{text-anchor:middle}.end{text-anchor:end}"
)


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps [low, high] to pixels [start, end], in logarithms if `log`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value; below the scale is its beginning."""
        low, high = self._on(self.low), self._on(self.high)
        part = (self._on(max(value, self.low)) - low) / (high - low)
        return self.start + part * (self.end - self.start)

    def _on(self, value: float) -> float:
        return log10(value) if self.log else value


@dataclass(slots=True)
class Drawing:
    """The elements of the image, in order."""

    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, style: str = "", turn: bool = False) -> None:
        """Words at a place; `turn`: upwards."""
        spun = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turn else ""
        chosen = f' class="{style}"' if style else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}"{chosen}{spun}>{escape(words)}</text>')

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str = "#D8D8D8") -> None:
        """A thin straight line."""
        self.parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'
        )

    def box(
        self, x: float, y: float, width: float, height: float, colour: str, *, hollow: bool = False
    ) -> None:
        """A filled rectangle, or only its edge."""
        fill = f'fill="none" stroke="{colour}" stroke-width="2"' if hollow else f'fill="{colour}"'
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" {fill}/>')

    def mark(self, x: float, y: float, shape: str, colour: str) -> None:
        """A point: circle, square or diamond."""
        if shape == "circle":
            self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>')
        elif shape == "square":
            self.box(x - 4, y - 4, 8, 8, colour)
        else:
            points = f"{x:.1f},{y - 6:.1f} {x + 6:.1f},{y:.1f} {x:.1f},{y + 6:.1f} {x - 6:.1f},{y:.1f}"
            self.parts.append(f'<polygon points="{points}" fill="{colour}"/>')

    def curve(self, points: Sequence[tuple[float, float]], shape: str, colour: str, dash: str = "") -> None:
        """Points joined by lines."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
        )
        for x, y in points:
            self.mark(x, y, shape, colour)

    def document(self) -> str:
        """The whole file."""
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
            f'height="{HEIGHT}" role="img" aria-label="Simulated costs of spaces and processes">\n'
            f'<style>{_STYLE}</style>\n<rect width="{WIDTH}" height="{HEIGHT}" fill="#FFFFFF"/>\n{body}\n</svg>\n'
        )


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: its name in the legend, how it looks, its points."""

    name: str
    shape: str
    colour: str
    points: list[tuple[int, int]]
    dash: str = ""


def draw(table: Table) -> str:
    """The file's text."""
    drawing = Drawing()
    drawing.text(WIDTH / 2, 30, "Spaces and processes on the simulated machine", "head middle")
    drawing.text(
        WIDTH / 2,
        50,
        "all times are simulated ns: what the engine did, times a table of costs; outlined bars are the RFC's measurements",
        "small middle",
    )
    _compare(drawing, table)
    _switching(drawing, table)
    _attaching(drawing, table)
    return drawing.document()


def _compare(drawing: Drawing, table: Table) -> None:
    left, right, top, bottom = 100, 450, 110, 370
    figures = [
        (row.what, who, getattr(row, who).each.ns) for row in table.compared for who in ("space", "process")
    ]
    values = [ns for _, _, ns in figures] + list(SEED.values())
    y = _decades(values, bottom, top)
    drawing.text(left, top - 22, "Table 1: switch and create, no tags", "title")
    _y_axis(drawing, y, left, right, "simulated ns (log scale)")
    for place, (what, who, ns) in enumerate(figures):
        x = left + 16 + place * 82 + (10 if place > 1 else 0)
        colour = BLUE if who == "space" else ORANGE
        drawing.box(x, y.at(ns), 34, bottom - y.at(ns), colour)
        measured = SEED[what, who]
        drawing.box(x + 38, y.at(measured), 22, bottom - y.at(measured), GREY, hollow=True)
        drawing.text(x + 30, y.at(max(ns, measured)) - 8, f"{ns}", "middle")
        drawing.text(x + 30, bottom + 18, who, "middle")
        if who == "space":
            drawing.text(x + 71, bottom + 38, what, "title middle")
    for place, (name, colour, hollow) in enumerate(
        (("space", BLUE, False), ("process", ORANGE, False), ("measured by the RFC", GREY, True))
    ):
        drawing.box(left + place * 84, bottom + 54, 12, 12, colour, hollow=hollow)
        drawing.text(left + 18 + place * 84, bottom + 65, name)


def _switching(drawing: Drawing, table: Table) -> None:
    left, right, top, bottom = 570, 930, 110, 370
    looks = (("circle", ORANGE, ""), ("square", PURPLE, "6 4"), ("diamond", BLUE, ""))
    lines = [
        Line(name, *look[:2], [(row.spaces, row.switch.each.ns) for row in rows], look[2])
        for (name, rows), look in zip(series(table), looks, strict=True)
    ]
    highest = max(ns for line in lines for _, ns in line.points)
    y = _from_zero(highest, bottom, top)
    drawing.text(left, top - 22, "Tags: going round so many spaces", "title")
    _y_axis(drawing, y, left, right, "simulated ns for a switch and 3 pages")
    _lines(drawing, lines, y, (left, right, bottom), "spaces (log scale)")


def _attaching(drawing: Drawing, table: Table) -> None:
    left, right, top, bottom = 100, 930, 510, 760
    rows = table.attaching
    lines = [
        Line(
            "fork with as many regions",
            "diamond",
            ORANGE,
            [(r.regions, r.fork.each.ns) for r in rows],
        ),
        Line(
            "attach lazily, use every page",
            "circle",
            GREEN,
            [(r.regions, (r.attach_lazy.each + r.use_lazy.each).ns) for r in rows],
        ),
        Line(
            "attach eagerly, use every page",
            "square",
            PURPLE,
            [(r.regions, (r.attach_eager.each + r.use_eager.each).ns) for r in rows],
        ),
        Line("attach eagerly", "square", PURPLE, [(r.regions, r.attach_eager.each.ns) for r in rows], "6 4"),
        Line("attach lazily", "circle", GREEN, [(r.regions, r.attach_lazy.each.ns) for r in rows], "6 4"),
        Line("switch", "diamond", BLUE, [(r.regions, r.switch.each.ns) for r in rows]),
    ]
    y = _decades([ns for line in lines for _, ns in line.points], bottom, top)
    pages = rows[0].pages // rows[0].regions
    drawing.text(left, top - 22, f"Regions: a space of so many regions of {pages} pages", "title")
    _y_axis(drawing, y, left, right - 250, "simulated ns (log scale)")
    _lines(drawing, lines, y, (left, right - 250, bottom), "regions (log scale)", beside=right - 232)


def _lines(
    drawing: Drawing,
    lines: Sequence[Line],
    y: Scale,
    frame: tuple[float, float, float],
    label: str,
    beside: float | None = None,
) -> None:
    """Curves over one x axis; the legend below it, or at x = `beside`."""
    left, right, bottom = frame
    counts = [count for count, _ in lines[0].points]
    x = Scale(counts[0], counts[-1], left + 20, right - 20, log=True)
    for count in counts:
        drawing.line(x.at(count), bottom, x.at(count), bottom + 5, GREY)
        drawing.text(x.at(count), bottom + 19, str(count), "middle")
    drawing.text((left + right) / 2, bottom + 38, label, "middle")
    for place, line in enumerate(lines):
        drawing.curve(
            [(x.at(count), y.at(ns)) for count, ns in line.points], line.shape, line.colour, line.dash
        )
        at = (left + place * 125, bottom + 60) if beside is None else (beside, y.end + 14 + place * 26)
        drawing.curve([at, (at[0] + 24, at[1])], line.shape, line.colour, line.dash)
        drawing.text(at[0] + 34, at[1] + 4, line.name)


def _y_axis(drawing: Drawing, y: Scale, left: float, right: float, label: str) -> None:
    for tick in _ticks(y):
        drawing.line(left, y.at(tick), right, y.at(tick))
        drawing.text(left - 8, y.at(tick) + 4, f"{tick:,.0f}".replace(",", " "), "end")
    drawing.line(left, y.start, left, y.end, GREY)
    drawing.line(left, y.start, right, y.start, GREY)
    drawing.text(left - (84 if y.log else 50), (y.start + y.end) / 2, label, "middle small", turn=True)


def _decades(values: Sequence[int], bottom: float, top: float) -> Scale:
    """A logarithmic scale from power of ten to power of ten; 0 is shown as its beginning."""
    low = floor(log10(max(min(values), 1)))
    high = max(ceil(log10(max(*values, 1))), low + 1)
    return Scale(10.0**low, 10.0**high, bottom, top, log=True)


def _from_zero(highest: int, bottom: float, top: float) -> Scale:
    """A linear scale with room above `highest`, up to a whole number of steps."""
    step = _step(highest)
    return Scale(0, ceil((highest * 1.05 + 1) / step) * step, bottom, top)


def _step(highest: float) -> float:
    """1, 2 or 5 times a power of ten: about a fifth of `highest`."""
    unit = 10.0 ** floor(log10(max(highest, 10) / 5))
    return next(unit * factor for factor in (1, 2, 5, 10) if unit * factor * 5 >= highest)


def _ticks(y: Scale) -> list[float]:
    if y.log:
        return [10.0**power for power in range(round(log10(y.low)), round(log10(y.high)) + 1)]
    step = _step(y.high)
    return [step * count for count in range(floor(y.high / step) + 1)]
