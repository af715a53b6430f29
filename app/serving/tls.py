"""TLS of the TCP socket: a context out of PEM files, which can be read anew while connections are open."""

import logging
import ssl
from typing import Final

from app.errors import CannotListenError
from app.settings import Settings

PROTOCOLS: Final = ("http/1.1",)
"""What is offered by ALPN."""

log = logging.getLogger("everspace.tls")


class Tls:
    """The certificate that clients are shown, and the authorities of theirs. Raises CannotListenError.

    TLS 1.2 at least, with the ciphers that Python takes for secure.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.context = self._read()

    def read_anew(self) -> None:
        """Take the files as they are now, for new connections. If they cannot be used, all stays as it was."""
        try:
            self._read()  # tried apart first: a context that was given half of it would be of no use
            _fill(self.context, self._settings)
        except (CannotListenError, OSError) as error:
            log.error("TLS stays as it is: %s", error)
        else:
            log.warning("the certificate was read anew")

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.set_alpn_protocols(list(PROTOCOLS))
        _fill(context, self._settings)
        return context


def tls_of(settings: Settings) -> Tls | None:
    """TLS as it is set, None for none. Raises CannotListenError: files that cannot be used, or options without a meaning."""
    if settings.tls_cert is not None:
        return Tls(settings)
    for name in ("tls_key", "tls_client_ca"):
        if getattr(settings, name) is not None:
            option = name.replace("_", "-")
            raise CannotListenError(
                f"--{option} (EVERSPACE_{name.upper()}) has no meaning without --tls-cert"
            )
    return None


def _fill(context: ssl.SSLContext, settings: Settings) -> None:
    certificate, key = settings.tls_cert, settings.tls_key
    if certificate is None:
        return
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except (ssl.SSLError, OSError, ValueError) as error:
        files = f"{certificate} and {key}" if key else f"{certificate}"
        raise CannotListenError(f"no certificate with its key in {files}: {_reason(error)}") from error
    authorities = settings.tls_client_ca
    if authorities is None:
        return
    try:
        context.load_verify_locations(authorities)
    except (ssl.SSLError, OSError) as error:
        raise CannotListenError(f"no authorities in {authorities}: {_reason(error)}") from error
    context.verify_mode = ssl.CERT_REQUIRED


def _no_passphrase() -> bytes:
    """Instead of the question that OpenSSL would ask on the terminal."""
    raise ValueError("the key has a passphrase")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").replace("_", " ").lower()
    return (isinstance(error, OSError) and error.strerror) or str(error)
