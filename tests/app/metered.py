"""What /metrics says, read as Prometheus reads it."""

from prometheus_client.parser import text_string_to_metric_families

from tests.app.support import Site


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels; none is told twice."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
    return found


async def metric(site: Site, name: str, **labels: str) -> float:
    """One sample of the service's; `name` without its prefix. Asking is a request, which counts afterwards."""
    answer = await site.send("GET", "/metrics", token=None)
    assert answer.status == 200
    return samples(answer.body.decode("utf-8"))["everspace_" + name, frozenset(labels.items())]
