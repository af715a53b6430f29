"""Where the service is, and which token it gets."""

import pytest

from everspace._url import find_endpoint, find_token, parse_url


@pytest.mark.parametrize(
    ("url", "shown", "authority"),
    [
        ("http://127.0.0.1:8765", "http://127.0.0.1:8765", "127.0.0.1:8765"),
        ("http://localhost:8765/", "http://localhost:8765", "localhost:8765"),
        ("http://example.org", "http://example.org:80", "example.org"),
        ("https://example.org/deep/er/", "https://example.org:443/deep/er", "example.org"),
        ("http://[::1]:99", "http://[::1]:99", "[::1]:99"),
        ("unix:/run/everspace.sock", "unix:/run/everspace.sock", "localhost"),
        ("unix:///run/a%20b.sock", "unix:/run/a b.sock", "localhost"),
        ("http+unix:///run/e.sock", "unix:/run/e.sock", "localhost"),
    ],
)
def test_urls_that_work(url: str, shown: str, authority: str) -> None:
    endpoint = parse_url(url)
    assert (str(endpoint), endpoint.authority) == (shown, authority)


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8765",
        "ftp://x",
        "http://",
        "http://u:p@host",
        "http://host:99999",
        "http://host?x=1",
        "http://host#f",
        "http://host/a b",
        "http://hé",
        "unix:relative.sock",
        "unix:",
        "",
    ],
)
def test_urls_that_cannot_be(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
        parse_url(url)


def test_the_argument_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVERSPACE_URL", raising=False)
    monkeypatch.delenv("EVERSPACE_TOKEN", raising=False)
    assert str(find_endpoint(None)) == "http://127.0.0.1:8765"
    assert find_token(None) is None
    monkeypatch.setenv("EVERSPACE_URL", "http://other:1")
    monkeypatch.setenv("EVERSPACE_TOKEN", "from-environment")
    assert str(find_endpoint(None)) == "http://other:1"
    assert str(find_endpoint("http://mine:2")) == "http://mine:2"
    assert find_token(None) == "from-environment"
    assert find_token("mine") == "mine"
    assert find_token("") is None


@pytest.mark.parametrize("token", ["a\nb", "a b", "é", "a\r\nX: y"])
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="token"):
        find_token(token)
