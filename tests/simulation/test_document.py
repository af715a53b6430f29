"""docs/simulation.md says what the source says."""

import re
from pathlib import Path

from engine.simulated.costs import DEFAULTS
from engine.simulated.mmu import FLUSH_CEILING, Hardware
from engine.simulated.table1 import FEW_TAGS
from engine.simulated.tlb import UPPER_ENTRIES

DOCUMENT = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text(encoding="utf-8")
GOLDEN = (Path(__file__).parent / "golden" / "table1.txt").read_text(encoding="utf-8")


def test_the_table_of_costs_is_the_one_in_use() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (.+?) \| (.+) \|$", DOCUMENT, re.MULTILINE)
    assert rows == [(str(cost.work), str(cost.ns), cost.each, cost.source) for cost in DEFAULTS]


def test_what_it_prints_is_what_is_printed() -> None:
    printed = DOCUMENT.split("```text\n")[1].split("```")[0]
    assert printed in GOLDEN
    assert printed.startswith("Table 1.")
    assert "Shootdown." in printed


def test_sums_in_the_text_are_right() -> None:
    ns = {cost.work.value: cost.ns for cost in DEFAULTS}
    for line in re.findall(r"^\| (?:VAS|process|fork) .*\|$", DOCUMENT, re.MULTILINE):
        named = re.findall(r"`(\w+)` (\d+)", line)
        assert named
        assert all(ns[name] == int(value) for name, value in named), line
        figure, made_of = re.findall(r"(\d+) \| (.+) \|$", line)[0]
        formula = re.sub(r"`\w+`| levels", "", made_of).replace("×", "*")
        assert re.fullmatch(r"[\d +*()]+", formula)
        assert eval(formula) == int(figure), line


def test_numbers_of_the_model_are_those_of_the_source() -> None:
    hardware = Hardware()
    for words in (
        f"by default {hardware.tlb_entries} entries in sets of {hardware.ways}",
        f"({UPPER_ENTRIES} are remembered",
        f"more than {FLUSH_CEILING} pages",
        f"have {hardware.tags} numbers",
        f"by default {FEW_TAGS})",
    ):
        assert words in DOCUMENT, words
