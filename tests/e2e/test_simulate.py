"""`everspaced simulate`: what tags and lazy attaching are worth on the simulated machine, counted and not measured."""

import json

from tests.conformance.support.service import EVERSPACED, run


def table1() -> dict[str, list[dict[str, object]]]:
    done = run([EVERSPACED, "simulate", "table1", "--json"])
    assert (done.returncode, done.stderr) == (0, "")
    return dict(json.loads(done.stdout))


def test_tags_save_the_flush_until_they_run_out() -> None:
    flushes = {}
    for line in table1()["switching"]:
        switch = line["switch"]
        assert isinstance(switch, dict)
        flushes[line["spaces"], line["tags"]] = switch["done"].get("tlb_flush", 0) / switch["times"]
    assert flushes[2, 0] == flushes[64, 0] == 1
    assert flushes[2, 16] == flushes[8, 16] == flushes[64, 4096] == 0
    assert 0 < flushes[64, 16] < 1


def test_the_figures_of_the_source_are_told_beside_ours() -> None:
    told = {line["what"]: line["measured_by_the_rfc_ns"] for line in table1()["table1"]}
    assert told == {"switch": {"space": 468, "process": 1944}, "create": {"space": 20003, "process": 150491}}
