"""Figures of a running service that nobody counts until they are asked for: engine, executor, store."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

from app.gate import Gate
from app.service import Service
from storage.errors import StoreError


@dataclass(frozen=True, slots=True)
class Figure:
    """One family of a metric: a value for each choice of labels. `counts`: it only ever grows."""

    name: str
    text: str
    counts: bool
    values: Sequence[tuple[tuple[str, ...], float]]
    labels: tuple[str, ...] = ()


def figures_of(gate: Gate) -> Iterator[Figure]:
    """On the event loop's thread."""
    service = gate.service
    yield from _of_the_way(service)
    yield from _of_the_machine(service)
    yield from _of_the_store(service)
    yield from _of_accounts(gate)


def _count(name: str, text: str, value: float) -> Figure:
    return Figure(name, text, True, [((), value)])


def _gauge(name: str, text: str, value: float) -> Figure:
    return Figure(name, text, False, [((), value)])


def _of_the_way(service: Service) -> Iterator[Figure]:
    executor, events = service.executor, service.events
    counts = executor.counts
    yield _count("transactions", "Engine transactions, retried ones included.", counts.transactions)
    yield _count("commits", "Durable commits.", counts.commits)
    yield _count("commits_failed", "Commits that the store refused.", counts.commits_failed)
    yield _gauge("transactions_unsettled", "Transactions that wait for a commit.", executor.unsettled)
    yield _count("fetches", "Times that pages were fetched from the store.", counts.fetches)
    yield _count("pages_fetched", "Pages fetched from the store.", counts.pages_fetched)
    yield _count("events", "Events published.", events.last)
    yield _gauge("event_streams", "Streams of events that are open.", events.streams)
    yield _count("leases_expired", "Tasks that exited because their lease ran out.", service.leases_expired)
    yield _count("background_failures", "Work in the background that failed.", service.background_failures)


def _of_the_machine(service: Service) -> Iterator[Figure]:
    machine = service.machine
    pool, slots = machine.pool, machine.slots
    minor, major = machine.tasks_table.faults()
    faults = ((("minor",), minor), (("major",), major))
    yield Figure(
        "faults", "Page faults in pages; major ones needed the store or swap.", True, faults, ("kind",)
    )
    yield _gauge("tasks", "Living tasks.", len(machine.tasks_table))
    yield _gauge("lock_waiters", "Threads that wait for a lock.", len(machine.locks))
    yield _gauge("spaces", "Spaces.", len(machine.spaces.registry))
    yield _gauge("segments", "Segments.", len(machine.segments.registry))
    yield _gauge("frames", "Page frames that may be resident.", pool.capacity)
    yield _gauge("frames_free", "Page frames that are free.", pool.free_count)
    yield _gauge("swap_pages", "Pages that the swap area can hold.", slots.capacity)
    yield _gauge("swap_pages_used", "Pages that are put aside there.", slots.used)
    yield _count("swap_failures", "Times that the disk refused to put pages aside.", slots.failures)


def _of_the_store(service: Service) -> Iterator[Figure]:
    failing = int(service.store_failing is not None)
    yield _gauge("store_failing", "Whether writing to the store fails at the moment", failing)
    try:
        statistics = service.store_statistics()
    except StoreError:
        return
    for field in fields(statistics):
        value = getattr(statistics, field.name)
        yield _gauge(f"store_{field.name}", f"{field.name} of the store; see docs/operations.md.", value)


def _of_accounts(gate: Gate) -> Iterator[Figure]:
    yield _gauge("bodies_held_bytes", "Of large bodies and answers that are held.", gate.room.taken)
    yield _count("bodies_refused", "Bodies and answers that there was no room for.", gate.room.refusals)
    auditing, quotas = gate.service.auditing, gate.service.executor.quotas
    over = [((limit,), number) for limit, number in quotas.refusals.items()]
    yield Figure("quota_refusals", "Calls that a quota did not let through.", True, over, ("limit",))
    yield _count("rate_refusals", "Requests beyond an account's rate.", gate.rates.refusals)
    yield _gauge("audit_pending", "Audit records that wait to be written.", auditing.pending)
    yield _gauge("audit_lag_seconds", "Age of the oldest audit record that waits.", auditing.lag_s)
    yield _count("audit_records", "Deeds that are to be in the audit journal.", auditing.counts.records)
    yield _count("audit_rows", "Rows of the audit journal that were written.", auditing.counts.rows)
    yield _count("audit_lost", "Deeds that the audit journal does not have.", auditing.counts.lost)
    yield _count("audit_failures", "Times that the audit journal took nothing.", auditing.counts.failures)
