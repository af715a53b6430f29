"""Requests a second: never more than the rate in any second, told with every answer."""

from random import Random

import pytest

from app.accounts.opening import open_accounts
from app.accounts.rates import RateRefusedError, Rates, Window
from storage.sql.accounts import Quota
from tests.app.support import Site


@pytest.mark.parametrize("seed", range(20))
def test_no_second_has_more_than_the_rate(seed: int) -> None:
    random = Random(seed)
    rate, now = random.randint(1, 8), 1000.0
    window = Window(rate)
    taken: list[float] = []
    for _ in range(400):
        now += random.choice([0.0, 0.01, 0.1, 0.5, 1.0]) * random.random()
        wait = window.wait(now)
        inside = [when for when in taken if when > now - 1.0]
        assert (wait == 0.0) == (len(inside) < rate)
        if wait:
            assert window.wait(now + wait / 2) > 0.0
            now += wait + 1e-6
            assert window.wait(now) == 0.0
        window.take(now)
        taken.append(now)


def test_a_lowered_rate_holds_at_once() -> None:
    now = 5.0
    rates = Rates(lambda: now)
    for _ in range(10):
        rates.admit(1, 10)
    with pytest.raises(RateRefusedError):
        rates.admit(1, 2)
    now = 6.0
    for _ in range(2):
        rates.admit(1, 2)
    with pytest.raises(RateRefusedError):
        rates.admit(1, 2)
    assert rates.refusals == 2
    rates.admit(2, 2)


async def test_requests_beyond_the_rate_are_refused_and_told_when_to_come_again(site: Site) -> None:
    token = site.account(1001)
    now = 100.0
    site.app.rates = Rates(lambda: now)
    accounts = open_accounts(site.service.settings)
    accounts.set_quota(1001, Quota(rate=3))
    accounts.close()
    for left in (2, 1, 0):
        answer = await site.call("GET", "/vas", token=token)
        assert answer.status == 200
        assert answer.headers["ratelimit-policy"] == '"requests";q=3;w=1'
        assert answer.headers["ratelimit"] == f'"requests";r={left};t=1'
    for path in ("/vas", "/tasks/1/memory?addr=0&len=1"):
        refused = await site.call("GET", path, token=token)
        assert (refused.status, refused.errno, refused.headers["retry-after"]) == (429, "EAGAIN", "1")
        assert refused.json["resource"] == "rate"
        assert refused.json["quota"] == 3
        assert refused.headers["ratelimit"] == '"requests";r=0;t=1'
    assert "ratelimit" not in (await site.call("GET", "/vas")).headers
    now = 101.0
    assert (await site.call("GET", "/vas", token=token)).status == 200
