"""The running service against its OpenAPI document, by Schemathesis: each call alone, and chains of calls by links.

No 500, no status that is not documented, no answer off schema, nothing taken that the schema forbids. Requests are
made from the schema; every other one is then tamed: its ids become ids that there are, its addresses and lengths
small, so that it has a chance to succeed. `--seed` replays a run.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from hypothesis.errors import Flaky, FlakyReplay
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok

from app.main import control_app
from everspace.wire import LEASE_SECONDS_MAX
from tests.conformance.support.service import Service

BASE = 0x1000_0000_0000
PAGE = 4096
PLACES = 32
"""Pages that tamed addresses lie in."""
EXAMPLES = 20
"""Requests of each call alone."""
CHAINED = 1000
"""Requests in chains."""
SUITES_MAX = 100
ENDLESS = "events"
"""Its answer has no end."""

CONFIG = {
    "generation": {
        "with-security-parameters": False
    },  # whether there is a token is no part of these requests
    # in chains, links put right what a request was to have wrong
    "phases": {"stateful": {"generation": {"mode": "positive"}}},
    "checks": {
        # a request may be well-formed and still be refused: names that are taken, ranges that collide
        "positive_data_acceptance": {"enabled": False},
        # a batch may end a task, a main thread too
        "ensure_resource_availability": {"enabled": False},
        # ENOMEM and ENOSPC are answers, not defects
        "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "507"]},
    },
}
Case = schemathesis.Case[Any]
QUIET = hypothesis.settings(
    deadline=None, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
)


class Ids:
    """What the service is known to have, and requests that are turned towards it."""

    def __init__(self) -> None:
        self.known: dict[str, list[int]] = {"vid": [], "sid": [], "pid": []}
        self.threads: dict[Any, Any] = {}
        self.addresses: set[str] = set()

    def learn(self, case: Case, response: schemathesis.Response) -> None:
        """Note the ids and addresses of an answer."""
        if (
            response.status_code not in (200, 201)
            or "application/json" not in response.headers["content-type"]
        ):
            return
        told = response.json()
        if not isinstance(told, dict):
            return
        kind = "sid" if "start" in told else "vid"
        if "id" in told:
            self.known[kind].append(told["id"])
        if "lease_s" in told:
            self.known["pid"].append(told["pid"])
        if "tid" in told and "pid" in case.path_parameters:
            self.threads[told["tid"]] = case.path_parameters["pid"]
        if isinstance(told.get("addr"), str):
            self.addresses.add(told["addr"])

    def tame(self, case: Case) -> None:
        """Make its ids ones that there are, its addresses and lengths small and aligned."""
        for members in (case.path_parameters, case.query, case.body):
            if isinstance(members, dict):
                for name in list(members):
                    members[name] = self._tamed(name, members[name])
        self.keep_alive(case)

    def keep_alive(self, case: Case) -> None:
        """Let it name no thread but those of its task, not end the main one, and let no lease run out."""
        parameters, body = case.path_parameters, case.body
        pid = parameters.get("pid")
        ending = case.operation.definition.raw["operationId"] == "exit_thread"
        for members in () if ending else (parameters, case.query, body):
            if isinstance(members, dict) and members.get("tid") and self.threads.get(members["tid"]) != pid:
                members["tid"] = pid
        if isinstance(body, dict) and "lease_s" in body:
            body["lease_s"] = LEASE_SECONDS_MAX

    @staticmethod
    def wait_for_no_lock(case: Case) -> None:
        """Let a switch end: a lock may never be free."""
        body = case.body
        if isinstance(body, dict) and case.path.endswith("/active") and body.get("timeout_s") is None:
            body["timeout_s"] = 0

    def _tamed(self, name: str, value: Any) -> Any:
        number = abs(value) if type(value) is int else sum(str(value).encode("utf-8", "replace"))
        if name in self.known and value is not None:
            known = self.known[name][-8:]
            return value if value in known or not known else known[number % len(known)]
        if name in ("addr", "start", "old_addr"):
            return value if value in self.addresses else hex(BASE + number % PLACES * PAGE)
        if name == "end":
            return hex(BASE + (PLACES + number % PLACES) * PAGE)
        if name in ("length", "len", "size", "old_size", "new_size"):
            return (1 + number % 4) * PAGE
        small = {
            "prot": (0, 1, 3),
            "flags": (0x22, 0x32, 0, 1),
            "mode": (0o600, 0o660),
            "id": (0, 1),
            "n": (0, 1),
        }
        return small[name][number % len(small[name])] if name in small else value


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service that runs; at the end it has reported no defect of its own."""
    with Service(tmp_path / "data") as started:
        yield started
        assert "Traceback" not in started.said()


def described(service: Service) -> Any:
    """The service's interface, as Schemathesis sees it."""
    loaded = schemathesis.openapi.from_dict(
        control_app(None).openapi(), config=schemathesis.Config.from_dict(CONFIG)
    )
    loaded.config.update(base_url=service.url)
    return loaded


def judged(case: Case, response: schemathesis.Response, failures: dict[str, str]) -> None:
    """Run Schemathesis' checks; each kind of failure of a call is kept once."""
    try:
        case.validate_response(response)
    except FailureGroup as group:
        for failure in group.exceptions:
            failures.setdefault(f"{case.operation.label}: {failure}", case.as_curl_command())


def report(failures: dict[str, str], answers: Counter[tuple[str, int]]) -> str:
    """What went wrong and, to be read when something did, what was answered."""
    succeeded = {label for label, status in answers if status < 300}
    print(f"{answers.total()} requests, {len(succeeded)} operations succeeded at least once")
    return "\n\n".join(f"{failure}\n{request}" for failure, request in failures.items())


@pytest.mark.timeout(300)
def test_each_call_alone(service: Service, seed: int) -> None:
    """Requests from the schema and against it, of every operation."""
    ids, failures, answers = Ids(), dict[str, str](), Counter[tuple[str, int]]()
    bearer = {"Authorization": f"Bearer {service.root_token}"}

    def driven(operation: Any) -> Callable[[], None]:
        @hypothesis.seed(seed)
        @hypothesis.settings(QUIET, max_examples=EXAMPLES)
        @given(case=operation.as_strategy(), tamed=st.booleans())
        def drive(case: Case, tamed: bool) -> None:
            if case.meta is not None and case.meta.generation.mode.is_positive:
                (ids.tame if tamed else ids.keep_alive)(case)
            ids.wait_for_no_lock(case)
            response = case.call(headers=bearer, timeout=30)
            ids.learn(case, response)
            answers[operation.label, response.status_code] += 1
            judged(case, response, failures)

        return drive

    operations = [found.ok() for found in described(service).get_all_operations() if isinstance(found, Ok)]
    assert len(operations) > 90
    for operation in sorted(operations, key=lambda found: (found.method == "delete", found.path.count("/"))):
        if operation.definition.raw["operationId"] != ENDLESS:
            driven(operation)()
    assert not failures, report(failures, answers)
    assert report(failures, answers) == ""


@pytest.mark.timeout(300)
def test_chains_of_calls_by_links(service: Service, seed: int) -> None:
    """What a call answers leads to others, as the links of the document say."""
    ids, failures, answers = Ids(), dict[str, str](), Counter[tuple[str, int]]()
    bearer = {"Authorization": f"Bearer {service.root_token}"}
    schema = described(service).exclude(operation_id=ENDLESS)

    class Chain(schema.as_state_machine()):  # type: ignore[misc]
        """One run of calls."""

        def setup(self) -> None:
            self.steps = 0

        def before_call(self, case: Case) -> None:
            self.steps += 1
            if self.steps % 4:
                ids.tame(case)
            ids.keep_alive(case)
            ids.wait_for_no_lock(case)

        def get_call_kwargs(self, case: Case) -> dict[str, Any]:
            return {"headers": bearer, "timeout": 30}

        def after_call(self, response: schemathesis.Response, case: Case) -> None:
            super().after_call(response, case)
            ids.learn(case, response)
            answers[case.operation.label, response.status_code] += 1

        def validate_response(self, response: schemathesis.Response, case: Case, **more: Any) -> None:
            try:
                super().validate_response(response, case, **more)
            except FailureGroup as group:
                for failure in group.exceptions:
                    failures.setdefault(f"{case.operation.label}: {failure}", case.as_curl_command())

    for suite in range(SUITES_MAX):
        # Chains share one service, so Hypothesis may find that a later one could not go as an earlier one did; it
        # then ends the suite, and the next one begins with a seed of its own.
        Chain.rule_order_seed = seed + suite
        with contextlib.suppress(Flaky, FlakyReplay):
            hypothesis.seed(seed + suite)(Chain).run(
                settings=hypothesis.settings(QUIET, max_examples=100, stateful_step_count=12)
            )
        if answers.total() >= CHAINED:
            break
    assert not failures, report(failures, answers)
    assert report(failures, answers) == ""
