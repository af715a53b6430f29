"""Whom an https:// client trusts, and who it says that it is. Imported only when it is needed: ssl is slow to load."""

import os
import ssl
from pathlib import Path

from everspace._url import Certificate, Files


def context(ca: Files | None = None, cert: Certificate | None = None) -> ssl.SSLContext:
    """Verifies names and certificates, always. `ca`: a PEM file, or a directory of them, in the place of the system's.

    Raises ValueError for files that cannot be read or used.
    """
    try:
        if ca is None:
            made = ssl.create_default_context()
        elif Path(ca).is_dir():
            made = ssl.create_default_context(capath=ca)
        else:
            made = ssl.create_default_context(cafile=ca)
    except OSError as cause:
        raise ValueError(f"no certificates in {os.fspath(ca or '')}: {_why(cause)}") from cause
    if cert is not None:
        chain, key = cert if isinstance(cert, tuple) else (cert, None)
        try:
            made.load_cert_chain(chain, key, password=_no_password)
        except (OSError, ValueError) as cause:
            raise ValueError(f"no certificate and key in {os.fspath(chain)}: {_why(cause)}") from cause
    return made


def _no_password() -> str:
    """Nobody is asked for one."""
    raise ValueError("the key is encrypted")


def _why(cause: Exception) -> str:
    if isinstance(cause, ssl.SSLError):
        return (cause.reason or "not PEM").lower().replace("_", " ")
    return getattr(cause, "strerror", None) or str(cause)
