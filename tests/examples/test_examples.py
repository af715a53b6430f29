"""Every example runs, as a program, and says what it is to say; and nothing in examples/ is left out of this or the README."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
HELPERS = {"__init__", "bytecode", "service"}
SAID = {
    "mmview_migrate": [
        r"(worker \d: [1-9]\d* answers by the old text, then [1-9]\d* by the new one\n){3}",
        "view 1 is the base now, the old text is gone",
    ],
    "mmview_patch": [
        "thread 0 computed 42 in each of 20 rounds\nthread 1 computed 42 in each of 20 rounds\n",
        "thread 2 computed 63 in each of 20 rounds",
        f"the total in shared memory is {20 * (42 + 42 + 63)}",
    ],
    "mmview_profiling": [
        "fib\\(30\\) is 832040 in every view",
        r"(thread \d: [1-9] of 8 requests in the counting view, \d+0 rounds counted\n){6}",
        "at most [12] threads were there at once; there are 2 places",
    ],
    "multias_contexts": [
        "15 slots beside the original address space, 24 guests",
        "200 entries: 144 by a switch alone, 56 with mapping anew",
        "0 guests found the memory of another",
    ],
    "barrelfish_vas_test": [
        r"(program \d reads \[0, 1, 2, 3\] at 0x200000000000 of the spaces 0 to 3\n){4}",
        "a frame of its own at the same address: EEXIST",
        "EFAULT inside, EFAULT outside",
    ],
    "gups": [
        r"  1 parts by switching: +2 requests", r" 16 parts by remapping: +\d{3} requests", "both ways leave the same table",
    ],
    "kv_store": [
        "4 clients counted to 40 in one number, 10 times each", "key 3 = another value, and a longer one",
        "key 5 = nothing", "the same after SIGKILL",
    ],
    "pipeline": [
        "parse: linked 60 records", "sort: changed 60 pointers, moved 0 records",
        "report: chr0 12, chr1 12, chr2 12, chr3 12, chr4 12; in order",
    ],
    "checkpoint": [
        "killed at step 50, gone on from the image of step 40", "step 60: as if nothing had happened",
        "the image still has step 40",
    ],
    "branching": [
        r"the route had 251\.8 at first, (1\d\d|20\d)\.\d in the best branch",
        "each branch touched 2 pages of its state", "after the resets every branch has the first route again",
    ],
}  # fmt: skip
"""What each prints, as patterns in their order."""


@pytest.mark.parametrize("name", SAID)
def test_an_example_runs(name: str) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("EVERSPACE_")}
    done = subprocess.run(
        [sys.executable, "-m", f"examples.{name}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    position = 0
    for pattern in SAID[name]:
        found = re.compile(pattern).search(done.stdout, position)
        assert found, (pattern, done.stdout)
        position = found.end()


def test_every_example_is_run_and_has_its_paragraph() -> None:
    programs = {path.stem for path in EXAMPLES.glob("*.py")} - HELPERS
    assert programs == set(SAID)
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    folders = {path.parent.name for path in EXAMPLES.glob("*/__main__.py")}
    assert set(re.findall(r"^- \*\*\[(\w+)\]", readme, re.MULTILINE)) == programs | folders
