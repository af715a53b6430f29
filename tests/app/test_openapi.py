"""The HTTP interface as a document: the golden file, and what it promises about itself."""

import json
from pathlib import Path

from app import openapi
from app.main import control_app

GOLDEN = Path(__file__).with_name("openapi.json")


def test_the_interface_is_the_golden_file() -> None:
    rendered = openapi.text(control_app(None).openapi())
    golden = GOLDEN.read_text(encoding="utf-8")
    assert rendered == golden, "the interface changed: run `make openapi` and note it in CHANGELOG.md"


def test_operations_are_named_once_and_have_one_kind_of_error() -> None:
    described = json.loads(GOLDEN.read_text(encoding="utf-8"))
    names = []
    for path, methods in described["paths"].items():
        for operation in methods.values():
            names.append(operation["operationId"])
            assert "422" not in operation["responses"]
            assert "application/problem+json" in operation["responses"]["default"]["content"]
            assert ("security" in operation) == path.startswith("/v1/")
    assert len(names) == len(set(names))


def test_the_document_can_be_written(tmp_path: Path) -> None:
    file = tmp_path / "openapi.json"
    assert openapi.main([str(file)]) == 0
    assert file.read_text(encoding="utf-8") == GOLDEN.read_text(encoding="utf-8")
