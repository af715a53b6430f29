"""The container: its files are valid, and the service takes every command and variable that is in them."""

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import check_jsonschema  # type: ignore[import-untyped]
import jsonschema_rs
import pytest
import yaml

from app.cli import parser
from app.commands.options import settings_of
from app.settings import Settings
from tests.conformance.support.service import Service, run

ROOT = Path(__file__).parents[2]
FILES = ("docker-compose.yml", "docker-compose.postgresql.yml")
SCHEMA = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor" / "compose-spec.json"


def loaded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return found


def dockerfile(verb: str) -> Iterator[str]:
    """What follows each line of a Dockerfile that begins so, in the last stage."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.rpartition("\nFROM ")[2].splitlines():
        if line.startswith(verb + " "):
            yield line.removeprefix(verb).strip()


def environment(service: Mapping[str, Any]) -> dict[str, str]:
    given = service.get("environment", {})
    return {name: str(value) for name, value in given.items()}


@pytest.mark.parametrize("name", FILES)
def test_compose_files_are_as_the_specification_has_them(name: str) -> None:
    validator = jsonschema_rs.validator_for(json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert [error.message for error in validator.iter_errors(loaded(name))] == []


def test_a_mistake_in_a_compose_file_would_be_seen() -> None:
    validator = jsonschema_rs.validator_for(json.loads(SCHEMA.read_text(encoding="utf-8")))
    wrong = loaded(FILES[0])
    wrong["services"]["everspace"]["heathcheck"] = {}
    assert not validator.is_valid(wrong)


def test_volumes_and_services_that_are_used_exist() -> None:
    services: dict[str, Any] = {}
    volumes: set[str] = set()
    for name in FILES:
        volumes |= loaded(name)["volumes"].keys()
        for service, members in loaded(name)["services"].items():
            services[service] = services.get(service, {}) | members
    assert set(services) == {"everspace", "accounts"}
    for service in services.values():
        assert {volume.partition(":")[0] for volume in service.get("volumes", [])} <= volumes
        assert set(service.get("depends_on", {})) <= services.keys()
        assert service["restart"] == "unless-stopped"
        assert "healthcheck" in service


@pytest.mark.parametrize("name", FILES)
def test_every_variable_is_a_setting_with_a_value_it_takes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = environment(loaded(name)["services"]["everspace"])
    assert given
    for variable in given:
        assert variable.startswith("EVERSPACE_")
        assert variable.removeprefix("EVERSPACE_").lower() in Settings.model_fields
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("EVERSPACE_DATA_DIR", "/data")
    assert Settings().data_dir == Path("/data")  # type: ignore[call-arg]


def test_the_image_s_command_is_taken() -> None:
    (entry,), (command,) = (tuple(map(json.loads, dockerfile(verb))) for verb in ("ENTRYPOINT", "CMD"))
    assert entry == ["everspaced"]
    settings = settings_of(parser().parse_args(command))
    service = loaded(FILES[0])["services"]["everspace"]
    assert str(settings.data_dir) == environment(service)["EVERSPACE_DATA_DIR"]
    assert (settings.host, settings.allow_remote) == ("0.0.0.0", True)
    assert service["volumes"][0].endswith(f":{settings.data_dir}")
    assert service["ports"] == [f"127.0.0.1:{settings.port}:{settings.port}"]
    assert list(dockerfile("EXPOSE")) == [str(settings.port)]
    assert list(dockerfile("STOPSIGNAL")) == ["SIGTERM"]
    assert int(service["stop_grace_period"].removesuffix("s")) >= settings.shutdown_grace + 30
    assert service["ulimits"]["nofile"] > settings.connections


def test_the_health_check_tells_whether_the_service_is_ready(tmp_path: Path) -> None:
    in_compose = loaded(FILES[0])["services"]["everspace"]["healthcheck"]["test"]
    (in_image,) = dockerfile("HEALTHCHECK")
    assert json.loads(in_image.partition(" CMD ")[2]) == in_compose[1:]
    assert in_compose[0] == "CMD"
    with Service(tmp_path / "data") as service:
        command = [part.replace(":8765/", f":{service.port}/") for part in in_compose[1:]]
        assert command != in_compose[1:], shlex.join(command)
        command[0] = sys.executable
        assert run(command).returncode == 0
        service.stop()
        assert run(command).returncode != 0
