"""`everspaced simulate`: its text and plot are golden files; bad input is one line and status 2."""

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from app import cli
from app.simulated.costs_file import FILE_MAX, costs_as_toml, read_costs
from app.simulated.svg import draw
from app.simulated.text import as_json, render
from engine.simulated.costs import COST_MAX_NS, CostError, Costs, Work
from engine.simulated.table1 import SEED, Table, table1

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden" / "table1.txt"
PLOT = ROOT / "docs" / "table1.svg"


@pytest.fixture(scope="module")
def table() -> Table:
    return table1(Costs())


@pytest.fixture
def everspaced(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> "Run":
    return Run(monkeypatch, capsys)


class Run:
    """Runs a command line in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: object) -> tuple[int, str, str]:
        """Status, standard output, standard error."""
        self._monkeypatch.setattr(sys, "argv", ["everspaced", "simulate", *map(str, arguments)])
        status = cli.main()
        return status, *self._capsys.readouterr()


def refused(result: tuple[int, str, str]) -> str:
    """The one line of a refusal."""
    status, out, err = result
    assert (status, out) == (2, "")
    assert err.startswith("everspaced: ")
    assert err.count("\n") == 1
    return err


def test_the_text_is_the_golden_one(everspaced: Run) -> None:
    """To write it anew: everspaced simulate table1 --plot docs/table1.svg > tests/simulation/golden/table1.txt"""
    assert everspaced("table1") == (0, GOLDEN.read_text(encoding="utf-8"), "")


def test_the_plot_in_the_documents_is_the_one_drawn(everspaced: Run, tmp_path: Path) -> None:
    file = tmp_path / "plot.svg"
    assert everspaced("table1", "--plot", file)[0] == 0
    assert file.read_text(encoding="utf-8") == PLOT.read_text(encoding="utf-8")


def test_it_runs_as_a_program_anywhere_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "simulate", "table1"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        check=True,
        encoding="ascii",
    )
    assert done.stdout == GOLDEN.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == []


def test_every_figure_is_called_simulated(table: Table) -> None:
    text = render(table)
    assert text.startswith("Every figure is in simulated ns")
    titles = [part for part in text.split("\n\n") if part and part[0].isupper()]
    assert len(titles) == 6
    assert all("simulated ns" in title for title in titles)
    assert as_json(table)["unit"] == "simulated ns"


def test_json_has_the_same_figures(everspaced: Run, table: Table) -> None:
    status, out, err = everspaced("table1", "--json")
    value = json.loads(out)
    assert (status, err) == (0, "")
    assert value == json.loads(json.dumps(as_json(table)))
    assert {
        (row["what"], who): row[who]["ns"] for row in value["table1"] for who in ("space", "process")
    } == SEED
    assert value["costs"] == Costs().as_dict()
    for row in value["table1"]:
        for who in ("space", "process"):
            spent = sum(value["costs"][work] * count for work, count in row[who]["done"].items())
            assert spent == row[who]["ns"] * row[who]["times"]


def test_the_plot_is_an_image_with_axes_units_and_legends(table: Table) -> None:
    root = ElementTree.fromstring(draw(table))
    words = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    for needed in (
        "simulated ns (log scale)", "spaces (log scale)", "regions (log scale)", "no tags", "16 tags", "4096 tags",
        "switch", "create", "space", "process", "measured by the RFC", "attach lazily", "attach eagerly", "468",
        "1944", "20003", "150491",
    ):  # fmt: skip
        assert needed in words, needed
    box = [float(number) for number in root.attrib["viewBox"].split()]
    for element in root.iter():
        for name, most in (("x", box[2]), ("y", box[3]), ("cx", box[2]), ("cy", box[3])):
            assert 0 <= float(element.attrib.get(name, 0)) <= most


@pytest.mark.parametrize("ns", [0, COST_MAX_NS])
def test_extreme_costs_are_shown(ns: int) -> None:
    table = table1(Costs(dict.fromkeys(Costs().as_dict(), ns)))
    assert "nan" not in draw(table)
    ElementTree.fromstring(draw(table))
    assert "Costs that are not the defaults: syscall = " in render(table)
    json.dumps(as_json(table))


def test_costs_come_from_a_file(everspaced: Run, tmp_path: Path) -> None:
    toml, other = tmp_path / "costs.toml", tmp_path / "costs.json"
    toml.write_text("syscall = 200 # slower\n", encoding="utf-8")
    other.write_text('{"syscall": 200}', encoding="utf-8")
    status, out, _ = everspaced("table1", "--costs", toml)
    assert status == 0
    assert read_costs(other).as_dict() == read_costs(toml).as_dict() == {**Costs().as_dict(), "syscall": 200}
    assert "switch    568     2044" in out
    assert "Costs that are not the defaults: syscall = 200 (default 100)\n" in out


def test_the_table_of_costs_is_printed_as_a_file_that_is_read(everspaced: Run, tmp_path: Path) -> None:
    status, out, _ = everspaced("costs")
    file = tmp_path / "costs.toml"
    file.write_text(out, encoding="utf-8")
    assert (status, out) == (0, costs_as_toml(Costs()))
    assert read_costs(file).as_dict() == Costs().as_dict()
    assert all(f"\n{work} = " in out for work in Work)
    changed = Costs({work.value: place for place, work in enumerate(Work)})
    file.write_text(costs_as_toml(changed), encoding="utf-8")
    assert read_costs(file).as_dict() == changed.as_dict()


BAD_FILES = {
    "unknown.toml": b"sysccall = 1\n",
    "negative.toml": b"syscall = -1\n",
    "fraction.toml": b"syscall = 1.5\n",
    "truth.toml": b"syscall = true\n",
    "text.toml": b'syscall = "1"\n',
    "table.toml": b"[syscall]\nns = 1\n",
    "twice.toml": b"syscall = 1\nsyscall = 2\n",
    "broken.toml": b"syscall = \n",
    "huge.toml": b"syscall = 1" + b"0" * 40 + b"\n",
    "long.toml": b"#" * (FILE_MAX + 1),
    "bytes.toml": b"syscall = 1 # \xff\n",
    "deep.toml": b"syscall = " + b"[" * 30_000,
    "lines.toml": b'"a\\nb" = 1\n',
    "empty.json": b"",
    "list.json": b"[1]",
    "null.json": b"null",
    "twice.json": b'{"syscall": 1, "syscall": 1}',
    "infinite.json": b'{"syscall": Infinity}',
    "digits.json": b'{"syscall": ' + b"9" * 5000 + b"}",
    "deep.json": b"[" * 30_000,
    "nul.json": b'{"sys\\u0000call": 1}',
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_malformed_files_of_costs(everspaced: Run, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(BAD_FILES[name])
    assert name in refused(everspaced("table1", "--costs", file))
    assert name in refused(everspaced("costs", "--costs", file))
    with pytest.raises(CostError):
        read_costs(file)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("table2",),
        ("table1", "--bogus"),
        ("table1", "extra"),
        ("table1", "--cost", "x"),
        ("table1", "--costs"),
        ("table1", "--costs", "no/such/file.toml"),
        ("table1", "--costs", "."),
        ("table1", "--costs", ""),
        ("table1", "--tags", "2"),
        ("table1", "--tags", "0"),
        ("table1", "--tags", "4096"),
        ("table1", "--tags", "-1"),
        ("table1", "--tags", "٣"),
        ("table1", "--tags", "9" * 50),
        ("table1", "--tlb-entries", "0"),
        ("table1", "--tlb-entries", "510"),
        ("table1", "--tlb-entries", "999999"),
        ("table1", "--tlb-ways", "0"),
        ("table1", "--tlb-ways", "1.5"),
        ("table1", "--plot"),
        ("table1", "--plot", "no/such/folder/plot.svg"),
        ("table1", "--plot", "."),
        ("costs", "--json"),
    ],
)
def test_bad_options(everspaced: Run, arguments: tuple[str, ...]) -> None:
    refused(everspaced(*arguments))


def test_other_hardware_gives_other_figures(everspaced: Run) -> None:
    status, out, _ = everspaced("table1", "--tags", 5, "--tlb-entries", 64, "--tlb-ways", 64)
    assert status == 0
    assert "spaces  no tags  5 tags  4096 tags" in out
    assert "\n8           468     " in out
