"""What is installed is what the lock says, whole, and under licences that may be passed on."""

import re
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
FREE = re.compile(
    r"MIT|MIT-0|ISC|0BSD|Zlib|BSD|PSF|PSFL|Apache|OLDAP|MPL|Mozilla|CC0|LGPL|DFSG|Public Domain|Python Software"
)
"""Licences under which a service may use a library without changing its own."""
LINE = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^ ;\\]+)(.*)$", re.MULTILINE)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, set[str]]:
    """Versions by name. Of some packages there are two, for different versions of Python."""
    found: dict[str, set[str]] = {}
    for lock in ("requirements-dev.lock", "requirements-bench.lock"):
        for name, version, _ in LINE.findall((ROOT / lock).read_text(encoding="utf-8")):
            found.setdefault(normal(name), set()).add(version)
    return found


def installed() -> dict[str, Distribution]:
    return {normal(found.name): found for found in distributions()}


def licence_of(found: Distribution) -> str:
    metadata = found.metadata
    classifiers = [text for text in metadata.get_all("Classifier") or () if text.startswith("License ::")]
    return " ".join(filter(None, (metadata["License-Expression"], metadata["License"], *classifiers)))


def test_what_is_installed_is_what_is_locked() -> None:
    known, found = locked(), installed()
    wrong = {
        name: found[name].version
        for name, versions in known.items()
        if name in found and found[name].version not in versions
    }
    assert wrong == {}


def test_no_dependency_is_missing_or_of_a_version_that_another_one_refuses() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_every_licence_may_be_used_with_ours() -> None:
    unclear = {
        name: licence_of(found)[:60]
        for name, found in installed().items()
        if not FREE.search(licence_of(found))
    }
    assert unclear == {}
