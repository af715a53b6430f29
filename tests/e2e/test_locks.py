"""Locks among programs in processes of their own: they take turns, die with a lock or while they wait for one, and stop."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import everspace
from tests.conformance.support.service import Service, environment, until

BASE = 0x1000_0000_0000
PAGE = 4096

PRELUDE = """
import everspace, sys
client = everspace.connect()
task = client.spawn(lease=float(sys.argv[1]))
vid = task.vas_find("shared")
task.vas_attach(0, vid, everspace.O_RDWR)
def say(word):
    print(word, flush=True)
"""
COUNT = """
for _ in range(int(sys.argv[2])):
    task.vas_switch(vid)
    number = int.from_bytes(task.read(0x100000000000, 8), "little")
    task.write(0x100000000000, (number + 1).to_bytes(8, "little"), durability="relaxed")
    task.vas_switch(0)
say("done")
"""
HOLD = """
task.vas_switch(vid)
say("inside")
sys.stdin.readline()
task.vas_switch(0)
say("outside")
"""
WAIT = """
say("asks")
try:
    task.vas_switch(vid)
    say("inside")
except everspace.VasError as error:
    say(type(error).__name__)
"""


@contextmanager
def program(
    service: Service, body: str, *args: object, lease: float = 60, prelude: str = PRELUDE
) -> Iterator["subprocess.Popen[str]"]:
    """A program of its own process, which tells what it does line by line."""
    env = environment({"EVERSPACE_URL": service.url, "EVERSPACE_TOKEN": service.root_token})
    command = [sys.executable, "-c", prelude + body, str(lease), *map(str, args)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def says(process: "subprocess.Popen[str]", word: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == f"{word}\n"


def shared(task: everspace.Task) -> int:
    """A lockable space with a lockable segment."""
    vid = task.vas_create("shared", 0o666, "lockable")
    sid = task.vas_seg_create("shared", BASE, BASE + PAGE, 0o666, "lockable")
    task.vas_seg_attach(vid, sid, everspace.O_RDWR)
    return vid


def waiting(client: everspace.Client, vid: int, count: int) -> None:
    """Until so many wait for the space."""

    def there() -> bool:
        space, _ = client.spaces.get(vid).locks()
        return len(space.waiters) == count

    until(f"{count} wait", there)


def test_programs_take_turns(service: Service) -> None:
    rounds, programs = 25, 3
    with everspace.connect(service.url, service.root_token) as client, client.spawn() as task:
        vid = shared(task)
        with (
            program(service, COUNT, rounds) as one,
            program(service, COUNT, rounds) as two,
            program(service, COUNT, rounds) as three,
        ):
            for each in (one, two, three):
                says(each, "done")
        task.vas_attach(0, vid, everspace.O_RDWR)
        task.vas_switch(vid, timeout=60)
        assert int.from_bytes(task.read(BASE, 8), "little") == programs * rounds


def test_a_lock_goes_from_hand_to_hand(service: Service) -> None:
    with everspace.connect(service.url, service.root_token) as client, client.spawn() as task:
        vid = shared(task)
        with program(service, HOLD) as one:
            says(one, "inside")
            with program(service, WAIT) as two:
                says(two, "asks")
                waiting(client, vid, 1)
                with program(service, WAIT) as three:
                    says(three, "asks")
                    waiting(client, vid, 2)
                    assert one.stdin is not None
                    one.stdin.write("\n")
                    one.stdin.flush()
                    says(one, "outside")
                    says(two, "inside")
                    two.wait(30)  # its task lives on, as nobody said that it is to exit
                    space, _ = client.spaces.get(vid).locks()
                    assert [len(space.holders), len(space.waiters)] == [1, 1]
                    service.http().call("DELETE", f"/v1/tasks/{space.holders[0].pid}")
                    says(three, "inside")


def test_the_lock_of_a_program_that_was_killed_goes_with_its_lease(service: Service) -> None:
    with everspace.connect(service.url, service.root_token) as client, client.spawn() as task:
        vid = shared(task)
        task.vas_attach(0, vid, everspace.O_RDWR)
        with program(service, HOLD, lease=1) as holder:
            says(holder, "inside")
            holder.send_signal(signal.SIGKILL)
            holder.wait(30)
        task.vas_switch(vid)
        assert task.active_vas() == vid


def test_a_program_that_is_killed_while_it_waits_leaves_the_queue(service: Service) -> None:
    with everspace.connect(service.url, service.root_token) as client, client.spawn() as task:
        vid = shared(task)
        task.vas_attach(0, vid, everspace.O_RDWR)
        task.vas_switch(vid)
        with program(service, WAIT) as one, program(service, WAIT) as two:
            says(one, "asks")
            says(two, "asks")
            waiting(client, vid, 2)
            one.send_signal(signal.SIGKILL)
            one.wait(30)
            waiting(client, vid, 1)
            task.vas_switch(0)
            says(two, "inside")


def test_a_program_waits_longer_than_its_client_is_patient(service: Service) -> None:
    with everspace.connect(service.url, service.root_token) as client, client.spawn() as task:
        vid = shared(task)
        task.vas_attach(0, vid, everspace.O_RDWR)
        task.vas_switch(vid)
        with program(service, WAIT, prelude=PRELUDE.replace("connect()", "connect(timeout=0.2)")) as one:
            says(one, "asks")
            waiting(client, vid, 1)
            with client.spawn() as other:
                other.vas_attach(0, vid, everspace.O_RDWR)
                with pytest.raises(TimeoutError, match="was not free"):
                    other.vas_switch(vid, timeout=0.5)
            task.vas_switch(0)
            says(one, "inside")


def test_a_stop_ends_all_waits_at_once(service: Service) -> None:
    with everspace.connect(service.url, service.root_token) as client:
        task = client.spawn()
        vid = shared(task)
        task.vas_attach(0, vid, everspace.O_RDWR)
        task.vas_switch(vid)
        with program(service, WAIT) as one:
            says(one, "asks")
            waiting(client, vid, 1)
            assert service.stop() == 0
            says(one, "CannotConnectError")  # it is told 503, and asks once more where nobody listens now
