"""The quick start of the README does what the README says."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.service import Service

ROOT = Path(__file__).parents[2]
PROGRAMS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "data")
    service.start()
    yield service
    service.stop()


def run(program: str, service: Service) -> str:
    environment = os.environ | {"EVERSPACE_URL": service.url, "EVERSPACE_TOKEN": service.token}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def test_what_the_first_program_stored_the_second_finds_after_sigkill(service: Service) -> None:
    first, second = PROGRAMS
    assert run(first, service) == ""
    service.kill()
    service.start()
    assert run("import everspace\n" + second, service) == "b'still here'\n"
