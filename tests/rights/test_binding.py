"""Where the service listens: beyond this machine only with TLS, or with express consent."""

from pathlib import Path
from typing import Any

import pytest

from app.errors import CannotListenError
from app.serving.server import bind
from app.settings import Settings
from tests.conformance.support.service import EVERSPACED, run

NEAR = ("127.0.0.1", "localhost", "127.1", "127.0.0.2", "::1")
WIDE = ("0.0.0.0", "0", "::", "::ffff:0.0.0.0", "10.255.255.1", "192.0.2.1", "224.0.0.1", "255.255.255.255")


def listen(data_dir: Path, host: str, **options: Any) -> list[str]:
    """The addresses that are listened on."""
    sockets = bind(Settings(data_dir=data_dir, host=host, port=0, **options))
    try:
        return [opened.getsockname()[0] for opened in sockets]
    finally:
        for opened in sockets:
            opened.close()


@pytest.mark.parametrize("host", NEAR)
def test_this_machine_needs_no_consent(tmp_path: Path, host: str) -> None:
    (address,) = listen(tmp_path, host)
    assert address.startswith("127.") or address == "::1"


def test_it_is_this_machine_unless_told_otherwise() -> None:
    assert Settings.model_fields["host"].default == "127.0.0.1"
    assert Settings.model_fields["allow_remote"].default is False


@pytest.mark.parametrize("host", WIDE)
def test_wider_needs_tls_or_consent(tmp_path: Path, host: str) -> None:
    with pytest.raises(CannotListenError, match="other machines"):
        listen(tmp_path, host)


@pytest.mark.parametrize("options", [{"allow_remote": True}, {"tls_cert": Path("a-certificate")}])
def test_with_either_it_is_done(tmp_path: Path, options: dict[str, Any]) -> None:
    assert listen(tmp_path, "0.0.0.0", **options) == ["0.0.0.0"]


def test_the_command_ends_with_2_and_one_line_and_makes_nothing(tmp_path: Path) -> None:
    done = run([EVERSPACED, "serve", "--data-dir", str(tmp_path / "data"), "--host", "0.0.0.0"])
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "--allow-remote" in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_unix_socket_alone_listens_on_no_network(tmp_path: Path) -> None:
    sockets = bind(Settings(data_dir=tmp_path, uds=tmp_path / "s"))
    try:
        assert [opened.family.name for opened in sockets] == ["AF_UNIX"]
    finally:
        for opened in sockets:
            opened.close()
