"""One real service for each worker, and a clean world in it for each test."""

import contextlib
from collections.abc import Iterator

import pytest

import everspace
from tests.conformance.support.service import Service
from tests.conformance.support.world import ACCOUNTS, Site, World


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(Service(tmp_path_factory.mktemp("conformance") / "data"))
        tokens = {"root": service.root_token}
        for name, (uid, gids) in ACCOUNTS.items():
            if uid:
                tokens[name] = service.account(uid, *gids, name=name)
        clients = {
            name: stack.enter_context(everspace.connect(service.url, token)) for name, token in tokens.items()
        }
        yield Site(service, tokens, clients)
        assert service.running(), service.said()
        assert "Traceback" not in service.said()


@pytest.fixture
def world(site: Site, request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(site, request.param)
    yield made
    made.close()
    assert "Traceback" not in site.service.said()
