"""What Prometheus is told: requests and commits as they happen, everything else when it asks.

A request costs a few dictionary and list operations: it is counted in plain numbers here, without the library's locks,
which become its metric families when they are asked for.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from app.gate import Gate
from app.http.exchange import Exchange
from app.serving.connections import Connections
from app.serving.figures import figures_of

MEDIA_METRICS: Final = CONTENT_TYPE_PLAIN_0_0_4
PREFIX: Final = "everspace_"
REQUEST_SECONDS: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip
COMMIT_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
GROUP_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
UNROUTED: Final = "unrouted"
"""The call of requests that no route was found for, or that were refused before."""
LEFT: Final = "left"
"""The status of requests whose client left before the answer."""


class Tally:
    """A histogram: `bounds` ascend."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count a value in."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def into(self, family: HistogramMetricFamily, labels: Sequence[str] = ()) -> None:
        """Add it to what is told."""
        names = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        family.add_metric(labels, list(zip(names, accumulate(self.counts), strict=True)), self.total)


class Metrics(Collector):
    """All metrics of the process. `gate` is what figures are asked of, as soon as there is one.

    `observe` is for the event loop's thread, `committed` for the writer's.
    """

    def __init__(self, connections: Connections | None = None) -> None:
        self.gate: Gate | None = None
        self._connections = connections
        self._requests: dict[tuple[str, int], int] = {}
        self._seconds: dict[str, Tally] = {}
        self._refusals: Counter[str] = Counter()
        self._commit_seconds = Tally(COMMIT_SECONDS)
        self._groups = Tally(GROUP_SIZES)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def observe(self, exchange: Exchange, seconds: float) -> None:
        """A request is over."""
        call = exchange.operation
        key = call, exchange.status
        self._requests[key] = self._requests.get(key, 0) + 1
        tally = self._seconds.get(call)
        if tally is None:
            tally = self._seconds[call] = Tally(REQUEST_SECONDS)
        tally.add(seconds)
        if exchange.errno is not None:
            self._refusals[exchange.errno] += 1

    def committed(self, transactions: int, seconds: float) -> None:
        """A commit was tried."""
        self._commit_seconds.add(seconds)
        self._groups.add(transactions)

    def text(self) -> bytes:
        """Everything, in the Prometheus text format. On the event loop's thread."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """The families of the service; see docs/operations.md."""
        gate = self.gate
        ready = int(gate is not None and gate.service.ready)
        yield GaugeMetricFamily(f"{PREFIX}ready", "Whether calls are taken.", value=ready)
        yield from self._of_requests()
        yield from self._of_commits()
        if self._connections is not None:
            yield from _of_connections(self._connections)
        if gate is not None:
            for figure in figures_of(gate):
                family = CounterMetricFamily if figure.counts else GaugeMetricFamily
                told = family(PREFIX + figure.name, figure.text, labels=figure.labels)
                for labels, value in figure.values:
                    told.add_metric(labels, value)
                yield told

    def _of_requests(self) -> Iterator[Metric]:
        count = CounterMetricFamily(f"{PREFIX}requests", "Requests.", labels=("call", "status"))
        for (call, status), number in self._requests.items():
            count.add_metric((call or UNROUTED, str(status or LEFT)), number)
        yield count
        seconds = HistogramMetricFamily(
            f"{PREFIX}request_seconds", "How long requests took.", labels=("call",)
        )
        for call, tally in self._seconds.items():
            tally.into(seconds, (call or UNROUTED,))
        yield seconds
        refusals = CounterMetricFamily(f"{PREFIX}refusals", "Requests that were refused.", labels=("errno",))
        for errno, number in self._refusals.items():
            refusals.add_metric((errno,), number)
        yield refusals

    def _of_commits(self) -> Iterator[Metric]:
        seconds = HistogramMetricFamily(f"{PREFIX}commit_seconds", "How long durable commits took.")
        self._commit_seconds.into(seconds)
        yield seconds
        groups = HistogramMetricFamily(f"{PREFIX}commit_transactions", "Transactions in one durable commit.")
        self._groups.into(groups)
        yield groups


def _of_connections(connections: Connections) -> Iterator[Metric]:
    yield GaugeMetricFamily(f"{PREFIX}connections", "Open connections.", value=len(connections.open))
    for name, text, label, counts in (
        ("connections_refused", "Connections over a limit.", "limit", connections.refused),
        ("connections_cut", "Connections whose client was too slow.", "phase", connections.cut),
    ):
        family = CounterMetricFamily(PREFIX + name, text, labels=(label,))
        for value, number in counts.items():
            family.add_metric((value,), number)
        yield family
    late = "Time by which the event loop was late, looked at ten times a second."
    yield CounterMetricFamily(f"{PREFIX}loop_late_seconds", late, value=connections.late_seconds)
