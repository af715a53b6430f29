"""No secret lies in what is versioned: no token of ours, no key, no password that looks like one."""

import re
import secrets
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import transient_settings

from storage.sql.accounts import PREFIX, TOKEN_BYTES

ROOT = Path(__file__).parents[2]
PLUGINS = (
    "AWSKeyDetector",
    "AzureStorageKeyDetector",
    "BasicAuthDetector",
    "DiscordBotTokenDetector",
    "GitHubTokenDetector",
    "GitLabTokenDetector",
    "JwtTokenDetector",
    "KeywordDetector",
    "NpmDetector",
    "OpenAIDetector",
    "PrivateKeyDetector",
    "PypiTokenDetector",
    "SlackDetector",
    "StripeDetector",
)
"""Kinds that name themselves. Random-looking strings are looked for by their entropy besides."""
ENTROPY = ({"name": "Base64HighEntropyString", "limit": 4.5}, {"name": "HexHighEntropyString", "limit": 3.5})
RANDOM_BY_NATURE = ("tests/storage/test_format.py",)
"""Rows of the store, byte by byte."""
TOKEN = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{{len(secrets.token_urlsafe(TOKEN_BYTES))}}}")
TEXT = frozenset({".py", ".md", ".toml", ".yml", ".yaml", ".ini", ".cfg", ".sh", ".sql", ".txt", ".env", ""})
HARMLESS = re.compile(r"change-me|//u:p@|0123456789abcdefABCDEF")
"""What stands in examples for a password that the reader has to choose, a test's address, and all hex digits."""


def versioned() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.suffix in TEXT and path.is_file() and not path.is_symlink()]


def found_in(paths: Iterable[Path]) -> Iterator[str]:
    """A line for each thing that looks like a secret."""
    plugins: list[dict[str, Any]] = [{"name": name} for name in PLUGINS]
    exact, random = list(paths), []
    for path in exact:
        text = path.read_text(encoding="utf-8")
        yield from (f"{path}: a token of ours: {match[0][:8]}…" for match in TOKEN.finditer(text))
        if str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path) not in RANDOM_BY_NATURE:
            random.append(path)
    for chosen, scanned in ((plugins, exact), (list(ENTROPY), random)):
        with transient_settings({"plugins_used": chosen, "filters_used": []}):
            collection = SecretsCollection()
            for path in scanned:
                collection.scan_file(str(path))
            for name, secret in collection:
                line = Path(name).read_text(encoding="utf-8").splitlines()[secret.line_number - 1]
                if not HARMLESS.search(line):
                    yield f"{name}:{secret.line_number}: {secret.type}: {line.strip()[:100]}"


def test_nothing_versioned_holds_a_secret() -> None:
    assert list(found_in(versioned())) == []


def test_what_is_planted_is_found(tmp_path: Path) -> None:
    planted = {
        "token.md": f"Authorization: Bearer {PREFIX}{secrets.token_urlsafe(TOKEN_BYTES)}",
        "key.txt": "-----BEGIN " + "RSA PRIVATE KEY-----",
        "word.py": "password = '" + secrets.token_urlsafe(12) + "'",
        "random.py": f"value = '{secrets.token_hex(32)}'",
    }
    for name, text in planted.items():
        (tmp_path / name).write_text(text + "\n", encoding="utf-8")
    found = [line.split(":")[0] for line in found_in(sorted(tmp_path.iterdir()))]
    assert set(found) == {str(tmp_path / name) for name in planted}
