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
            assert ("security" in operation) == path.startswith("/v1/")
            assert "default" not in operation["responses"], "every status is documented by itself"
            for status, response in operation["responses"].items():
                assert int(status) < 400 or response["$ref"].startswith("#/components/responses/")
    assert len(names) == len(set(names))
    for response in described["components"]["responses"].values():
        assert list(response["content"]) == ["application/problem+json"]


def test_the_statuses_of_errnos_that_are_described_are_documented() -> None:
    described = json.loads(GOLDEN.read_text(encoding="utf-8"))
    fork = described["paths"]["/v1/tasks/{pid}/mmap"]["post"]
    assert "EEXIST" in fork["description"]
    assert fork["responses"]["409"] == {"$ref": "#/components/responses/Conflict"}


def test_links_name_operations_and_parameters_that_there_are() -> None:
    described = json.loads(GOLDEN.read_text(encoding="utf-8"))
    operations = {
        operation["operationId"]: operation
        for methods in described["paths"].values()
        for operation in methods.values()
    }
    links = described["components"]["links"]
    assert len(links) > 100
    for link in links.values():
        names = {parameter["name"] for parameter in operations[link["operationId"]]["parameters"]}
        assert link["parameters"].keys() <= names
    used = {
        link["$ref"].rpartition("/")[2]
        for operation in operations.values()
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    }
    assert used == links.keys()


def test_the_document_can_be_written(tmp_path: Path) -> None:
    file = tmp_path / "openapi.json"
    assert openapi.main([str(file)]) == 0
    assert file.read_text(encoding="utf-8") == GOLDEN.read_text(encoding="utf-8")
