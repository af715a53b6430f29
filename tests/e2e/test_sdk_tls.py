"""The SDK and the command line against a service behind TLS: everything goes there as it does in the clear."""

import asyncio
from pathlib import Path

import pytest

import everspace
from tests.conformance.support.service import EVERSPACE, run
from tests.e2e.secure import Certificates, SecureService

BASE = 0x1000_0000_0000


def test_the_sdk_and_the_command_line_speak_tls(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path / "certificates")
    with SecureService(tmp_path / "data", certificates.issue("good"), certificates.client()) as service:
        token = service.root_token
        with (
            everspace.connect(service.url, token, ca=certificates.ca) as client,
            client.events("space.") as events,
        ):
            heap = client.segments.create("heap", BASE, BASE + (8 << 20))
            data = bytes(range(256)) * (4 << 12)  # more than one record, and more than a socket takes at once
            heap.pwrite(4096, data)
            assert heap.pread(4096, len(data)) == data
            client.spaces.create("lab")
            assert next(iter(events)).data["name"] == "lab"

        async def twin() -> bytes:
            async with everspace.aconnect(service.url, token, ca=certificates.ca) as other:
                found = await other.segments.find("heap")
                parts = await asyncio.gather(*(found.pread(4096 + (n << 16), 1 << 16) for n in range(64)))
                return b"".join(parts)

        assert asyncio.run(twin()) == data
        told = {"EVERSPACE_URL": service.url, "EVERSPACE_TOKEN": token}
        listed = run([EVERSPACE, "--ca", str(certificates.ca), "vas", "ls"], env=told)
        assert (listed.returncode, "lab" in listed.stdout) == (0, True), listed
        unknown = run([EVERSPACE, "vas", "ls"], env=told)
        assert (unknown.returncode, unknown.stderr.count("\n")) == (3, 1), unknown
        assert "certificate" in unknown.stderr


def test_a_certificate_of_the_client_is_asked_for(tmp_path: Path) -> None:
    ours, theirs = Certificates(tmp_path / "ours"), Certificates(tmp_path / "theirs")
    mine = ours.issue("client")
    wanted = {"EVERSPACE_TLS_CLIENT_CA": str(ours.ca)}
    with SecureService(tmp_path / "data", ours.issue("good"), ours.client(mine), wanted) as service:
        token = service.root_token
        with everspace.connect(service.url, token, ca=ours.ca, cert=mine) as client:
            client.spaces.create("lab")
        for cert in (None, theirs.issue("client")):
            with (
                everspace.connect(service.url, token, ca=ours.ca, cert=cert) as client,
                pytest.raises(everspace.TransportError),
            ):
                client.spaces.create("another")
        with everspace.connect(service.url, token, ca=ours.ca, cert=mine) as client:
            assert [space.name for space in client.spaces.list()] == ["lab"]
