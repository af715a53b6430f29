"""A process that has everything imported and forks victims: a kill then costs milliseconds, not the start of Python.

    python nursery.py        reads one JSON object a line, answers each with one

    {"data_dir": …, "seed": …, "count": …, "eager": …, "failpoint": "name:passage" or "", "seconds": null or a number}

The victim commits `count` transactions of the workload from where the directory stands. It dies at the failpoint, or
is killed after `seconds`, counted from its first acknowledgement. The answer: {"first": …, "acknowledged": …,
"killed": …}, `first` being the last transaction that was there when it began.
"""

import json
import os
import select
import signal
import sys
import time
import traceback
from typing import Any

from engine.geometry import X86_64
from storage import failpoints, open_store
from storage.lmdb.housekeeping import Tuning
from storage.writer import Writer
from tests.crash.workload import EAGER, reached, transaction

NUMBER_BYTES = 8
GROUP = 4


def commit(order: dict[str, Any], out: int) -> None:
    """Commit, acknowledge, go on; a group at a time is under way, as in the service."""
    failpoints.arm(order["failpoint"])
    store = open_store(order["data_dir"], X86_64, tuning=EAGER if order["eager"] else Tuning())
    first = reached(store)
    os.write(out, first.to_bytes(NUMBER_BYTES, "little"))
    writer = Writer(store)
    for base in range(first + 1, first + 1 + order["count"], GROUP):
        futures = [
            (n, writer.submit(transaction(order["seed"], n)))
            for n in range(base, min(base + GROUP, first + 1 + order["count"]))
        ]
        for number, future in futures:
            future.result()
            os.write(out, number.to_bytes(NUMBER_BYTES, "little"))
    writer.close()
    store.close()


def run(order: dict[str, Any]) -> dict[str, Any]:
    """Have one victim live and die."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            commit(order, writing)
        except BaseException:  # noqa: BLE001 - a child must not go on as its parent
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    numbers: list[int] = []
    deadline: float | None = None
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        if not select.select([reading], [], [], left)[0]:
            os.kill(pid, signal.SIGKILL)
            deadline = None
            continue
        said = os.read(reading, NUMBER_BYTES)
        if not said:
            break
        numbers.append(int.from_bytes(said, "little"))
        if len(numbers) == 1 and order["seconds"] is not None:
            deadline = time.monotonic() + order["seconds"]
    os.close(reading)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a victim ended with {status}")
    first = numbers[0] if numbers else 0
    return {
        "first": first,
        "acknowledged": numbers[-1] if numbers else 0,
        "killed": status == -signal.SIGKILL,
    }


def main() -> None:
    """Serve until the end of standard input."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
