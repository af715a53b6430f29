"""A service behind TLS, with certificates that are made for the test."""

import http.client
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from tests.conformance.support.service import Service


class Certificates:
    """An authority, and files of it in a directory."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.authority = trustme.CA()
        self.directory = directory
        self.ca = directory / "ca.pem"
        self.authority.cert_pem.write_to_path(self.ca)

    def issue(self, name: str, *, expired: bool = False) -> tuple[Path, Path]:
        """The files of a certificate for localhost and of its key."""
        past = datetime.now(UTC) - timedelta(days=1)
        made = self.authority.issue_cert("localhost", "127.0.0.1", not_after=past if expired else None)
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        certificate.unlink(missing_ok=True)
        for number, pem in enumerate(made.cert_chain_pems):
            pem.write_to_path(certificate, append=number > 0)
        made.private_key_pem.write_to_path(key)
        return certificate, key

    def client(self, certificate: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """The context of a client that trusts the authority."""
        context = ssl.create_default_context(cafile=self.ca)
        if certificate is not None:
            context.load_cert_chain(*certificate)
        return context


class SecureService(Service):
    """Served by TLS; `context` is what its readiness is asked with."""

    def __init__(
        self,
        data_dir: Path,
        certificate: tuple[Path, Path],
        context: ssl.SSLContext,
        env: dict[str, str] | None = None,
    ) -> None:
        files = {"EVERSPACE_TLS_CERT": str(certificate[0]), "EVERSPACE_TLS_KEY": str(certificate[1])}
        super().__init__(data_dir, files | (env or {}))
        self.context = context

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def ask(self, path: str, context: ssl.SSLContext | None = None) -> tuple[int, dict[str, str], bytes]:
        """GET something as root over a connection of its own. Raises OSError."""
        connection = http.client.HTTPSConnection(
            "localhost", self.port, timeout=30, context=context or self.context
        )
        try:
            token = self.root_token if (self.data_dir / "root.token").exists() else "none"
            connection.request("GET", path, headers={"authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            body = answer.read()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body
        finally:
            connection.close()

    def _ready(self) -> bool:
        try:
            return self.ask("/readyz")[0] == 200
        except (OSError, http.client.HTTPException):
            return False
