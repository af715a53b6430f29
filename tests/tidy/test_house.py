"""The two distributions, their locks, the container and the continuous integration fit together."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]


def project(folder: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))


def locked(name: str) -> dict[str, str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", text, re.MULTILINE))


def plain(requirement: str) -> str:
    """The normalised name in a requirement."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement)[0]).lower()


def compose_service() -> dict[str, Any]:
    return dict(compose()["services"]["everspace"])


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return loaded


def test_both_distributions_have_one_version_and_the_changelog_knows_it() -> None:
    server, client = project(".")["project"]["version"], project("client")["project"]["version"]
    assert server == client
    assert f"## {server}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_locks_hold_every_dependency_in_one_version() -> None:
    runtime, tools = locked("requirements.lock"), locked("requirements-dev.lock")
    wanted = set()
    for distribution in (project(".")["project"], project("client")["project"]):
        extras = distribution.get("optional-dependencies", {}).values()
        wanted |= {plain(line) for lines in (distribution["dependencies"], *extras) for line in lines}
    assert wanted - {"everspace"} <= runtime.keys()
    groups = project(".")["dependency-groups"]
    assert {plain(line) for line in groups["dev"]} <= tools.keys()
    assert {plain(line) for line in groups["bench"]} == locked("requirements-bench.lock").keys()
    assert {name: tools[name] for name in runtime} == runtime


def test_the_locks_name_hashes_and_no_host() -> None:
    for name in ("requirements.lock", "requirements-dev.lock", "requirements-bench.lock"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "://" not in text
        assert text.count("==") <= text.count("--hash=sha256:")


def test_every_package_is_typed_and_in_a_wheel() -> None:
    packages = set(project(".")["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert packages == {"app", "engine", "storage", "migrations"}
    for folder in ("app", "engine", "storage", "client/src/everspace"):
        assert (ROOT / folder / "py.typed").exists()


def test_compose_waits_for_readiness_and_keeps_the_data() -> None:
    service = compose_service()
    assert "version" not in compose()
    assert "/readyz" in " ".join(service["healthcheck"]["test"])
    volume, target = service["volumes"][0].split(":")
    assert volume in compose()["volumes"]
    assert target == "/data"
    assert service["init"] is True
    assert service["stop_grace_period"]


def test_the_container_does_not_run_as_root_and_is_not_open_to_the_network() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^USER (?!root)\w+", dockerfile, re.MULTILINE)
    assert "/readyz" in dockerfile
    assert compose_service()["user"].split(":")[0] not in ("0", "root")
    assert all(port.startswith("127.0.0.1:") for port in compose_service()["ports"])


def test_continuous_integration_calls_the_verbs_of_the_makefile() -> None:
    steps = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "\nmake check\n" in steps
    assert "\nmake test\n" in steps


def test_the_layer_contracts_are_in_force() -> None:
    names = {contract["name"] for contract in project(".")["tool"]["importlinter"]["contracts"]}
    assert {"app > storage > engine", "the SDK knows nothing of the server"} <= names
