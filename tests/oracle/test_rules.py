"""The engine and the kernel keep the same rules, one by one."""

import pytest

from tests.oracle import simulated
from tests.oracle.compare import steps_of
from tests.oracle.modes import MODES
from tests.oracle.oracle import Oracle
from tests.oracle.rules import RULES, Rule
from tests.oracle.support import outcome


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_engine_keeps_a_rule(rule: Rule) -> None:
    records = simulated.run(steps_of(rule.calls), MODES[rule.mode], simulated.CAN)
    assert outcome(records) == rule.outcome


def test_the_kernel_keeps_the_same_rules(oracle: Oracle) -> None:
    for rule in RULES:
        if rule.mode == oracle.mode.name and (oracle.kernel.can["brk"] or not rule.needs_heap):
            assert outcome(oracle.kernel.run(steps_of(rule.calls))) == rule.outcome, rule.name
            found = oracle.difference(rule.calls)
            if found is not None:
                pytest.fail(f"{rule.name}\n{found}", pytrace=False)
