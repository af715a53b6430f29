"""Documents that could drift from the source are compared with it."""

import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for path in [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "client").glob("*.md"),
        *ROOT.glob("*/README.md"),
    ]
)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
TERM = re.compile(r"^### (?P<term>.+?)\n+`(?P<symbol>[a-z_]+(?:\.\w+)+)`", re.MULTILINE)
HEADING = re.compile(r"^### ", re.MULTILINE)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def resolve(symbol: str) -> object:
    """The object behind a dotted name: the longest importable module, then attributes."""
    parts = symbol.split(".")
    for count in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        return reduce(getattr, parts[count:], module)
    raise ModuleNotFoundError(symbol)


def glossary() -> list[tuple[str, str]]:
    return [(match["term"], match["symbol"]) for match in TERM.finditer(read("docs/glossary.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    links = [link.partition("#")[0] for link in LINK.findall(document.read_text(encoding="utf-8"))]
    local = [link for link in links if link and not re.match(r"[a-z]+:", link)]
    assert [link for link in local if not (document.parent / link).exists()] == []


def test_every_glossary_entry_names_its_symbol() -> None:
    assert len(glossary()) == len(HEADING.findall(read("docs/glossary.md"))) > 10


@pytest.mark.parametrize(("term", "symbol"), glossary())
def test_glossary_symbols_exist(term: str, symbol: str) -> None:
    assert resolve(symbol) is not None, term


def test_glossary_terms_are_sorted_and_unique() -> None:
    terms = [term.casefold() for term, _ in glossary()]
    assert terms == sorted(set(terms))


def test_every_setting_is_documented() -> None:
    settings = importlib.import_module("app.settings").Settings
    documents = "".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    names = [f"EVERSPACE_{name.upper()}" for name in settings.model_fields]
    assert [name for name in names if name not in documents] == []


def test_documents_use_no_unknown_setting() -> None:
    settings = importlib.import_module("app.settings").Settings
    known = {f"EVERSPACE_{name.upper()}" for name in settings.model_fields} | {
        "EVERSPACE_URL",
        "EVERSPACE_TOKEN",
        "EVERSPACE_CA",
        "EVERSPACE_CERT",
        "EVERSPACE_KEY",
    }
    used = {
        name
        for path in DOCUMENTS
        for name in re.findall(r"\bEVERSPACE_[A-Z_]+\b", path.read_text(encoding="utf-8"))
    }
    assert used <= known


def test_invariants_are_numbered_without_gaps_and_every_cited_one_is_listed() -> None:
    listed = [int(number) for number in re.findall(r"^\W*I(\d+)\b", read("docs/invariants.md"), re.MULTILINE)]
    cited = {
        int(number)
        for path in (ROOT / "engine").rglob("*.py")
        for number in re.findall(r"\"I(\d+):", path.read_text(encoding="utf-8"))
    }
    assert sorted(set(listed)) == list(range(1, max(listed) + 1))
    assert cited <= set(listed)


def test_decisions_are_dated_and_say_why() -> None:
    decisions = sorted((ROOT / "docs" / "adr").glob("*.md"))
    assert len(decisions) >= 5
    for path in decisions:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d-[a-z0-9-]+\.md", path.name)
        headings = re.findall(r"^## (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert headings == ["Question", "Decision", "Why", "What it costs"], path.name


def test_the_readme_names_every_verb_of_the_makefile() -> None:
    verbs = re.findall(r"^([a-z]+):.*##", read("Makefile"), re.MULTILINE)
    assert [verb for verb in verbs if f"make {verb}" not in read("README.md") + read("CONTRIBUTING.md")] == []


def test_the_readme_shows_the_demo_as_it_prints() -> None:
    """The transcript in the README has the chapters of the demo, in their order."""
    story = read("examples/word_index/__main__.py")
    chapters = re.findall(r"story\.chapter\(\"(.+?)\"\)", story)
    readme = read("README.md")
    positions = [readme.find(f"{number}. {title}") for number, title in enumerate(chapters, start=1)]
    assert -1 not in positions
    assert positions == sorted(positions)
