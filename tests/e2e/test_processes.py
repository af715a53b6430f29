"""Several client processes: they share a segment, follow each other's pointers, and die without a goodbye."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import everspace
from tests.conformance.support.service import Service, environment, run, until
from tests.e2e.linked_list import BASE

PAGE = 4096
ROOT = Path(__file__).parents[2]


def shared_space(task: everspace.Task, name: str = "list", sharing: str = "shared") -> tuple[int, int]:
    vid = task.vas_create(name, 0o666, sharing)
    sid = task.vas_seg_create(name, BASE, BASE + 16 * PAGE, 0o666, sharing)
    task.vas_seg_attach(vid, sid, everspace.O_RDWR)
    return vid, sid


def program(service: Service, *args: str, token: str | None = None) -> list[int]:
    """Run the list's program to its end; what it walked over."""
    command = [
        sys.executable,
        "-m",
        "tests.e2e.linked_list",
        service.url,
        token or service.root_token,
        "list",
        *args,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=ROOT, env=environment(), check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return [int(number) for number in done.stdout.split()]


def test_two_processes_follow_each_others_pointers(service: Service) -> None:
    other = service.account(1003, 1003)
    with everspace.connect(service.url, service.root_token) as client, client.spawn() as task:
        vid, _ = shared_space(task)
        task.vas_attach(0, vid, everspace.O_RDWR)
        task.vas_switch(vid)
        assert program(service, "append", "1", "2", "3") == [1, 2, 3]
        assert program(service, "walk", token=other) == [1, 2, 3]
        assert program(service, "append", "4", token=other) == [1, 2, 3, 4]
        assert int.from_bytes(task.read(BASE, 8), "little") == BASE + 16
        assert program(service, "walk") == [1, 2, 3, 4]
    service.kill()
    service.start()
    assert program(service, "walk") == [1, 2, 3, 4]


def test_two_processes_at_once_are_in_one_memory(service: Service) -> None:
    with everspace.connect(service.url, service.root_token) as client, client.spawn() as task:
        vid, _ = shared_space(task)
        task.vas_attach(0, vid, everspace.O_RDWR)
        task.vas_switch(vid)
        script = f"""
import everspace, sys
with everspace.connect() as client, client.spawn() as task:
    vid = task.vas_find("list")
    task.vas_attach(0, vid, everspace.O_RDWR)
    task.vas_switch(vid)
    for line in sys.stdin:
        number = int(line)
        assert task.read({BASE}, 8) == number.to_bytes(8, "little")
        task.write({BASE} + 8, (number * 2).to_bytes(8, "little"))
        print(number, flush=True)
"""
        env = environment({"EVERSPACE_URL": service.url, "EVERSPACE_TOKEN": service.root_token})
        with subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        ) as peer:
            assert peer.stdin is not None
            assert peer.stdout is not None
            for number in range(1, 30):
                task.write(BASE, number.to_bytes(8, "little"))
                peer.stdin.write(f"{number}\n")
                peer.stdin.flush()
                assert peer.stdout.readline() == f"{number}\n"
                assert int.from_bytes(task.read(BASE + 8, 8), "little") == 2 * number
            peer.stdin.close()
            assert peer.wait(30) == 0


def test_an_exclusive_space_keeps_the_second_process_out(service: Service) -> None:
    with everspace.connect(service.url, service.root_token) as client, client.spawn() as task:
        vid, _ = shared_space(task, sharing="exclusive")
        task.vas_attach(0, vid, everspace.O_RDWR)
        script = f"import everspace\nwith everspace.connect() as c, c.spawn() as t: t.vas_attach(0, {vid}, 0)"
        env = {"EVERSPACE_URL": service.url, "EVERSPACE_TOKEN": service.root_token}
        refused = run([sys.executable, "-c", script], env=env)
        assert "EBUSY" in refused.stderr
        task.vas_detach(0, vid)
        assert run([sys.executable, "-c", script], env=env).returncode == 0


def test_a_process_that_is_killed_loses_its_attachments_with_its_lease(service: Service) -> None:
    script = """
import everspace, time
client = everspace.connect()
task = client.spawn(lease=1)
task.vas_attach(0, task.vas_find("list"), everspace.O_RDWR)
task.vas_switch(task.vas_find("list"))
print("holding", flush=True)
time.sleep(600)
"""
    env = environment({"EVERSPACE_URL": service.url, "EVERSPACE_TOKEN": service.root_token})
    with everspace.connect(service.url, service.root_token) as client, client.spawn() as task:
        vid, _ = shared_space(task, sharing="exclusive")
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=env) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"holding\n"
            assert task.vas_getattr(vid).attach_count == 1
            holder.send_signal(signal.SIGKILL)
            holder.wait(30)
            until("the lease ended", lambda: task.vas_getattr(vid).attach_count == 0)
        task.vas_attach(0, vid, everspace.O_RDWR)


def test_threads_of_a_process_work_in_two_places_at_once(service: Service) -> None:
    """A thread in a space and another in the original address space, each on an operating-system thread."""
    rounds = 60
    private = everspace.MAP_PRIVATE | everspace.MAP_ANONYMOUS
    with everspace.connect(service.url, service.root_token) as client, client.spawn() as task:
        vid, _ = shared_space(task)
        own = task.mmap(0, PAGE, everspace.PROT_READ | everspace.PROT_WRITE, private)
        task.vas_attach(0, vid, everspace.O_RDWR)
        inside = task.thread()
        inside.vas_switch(vid)

        def work_inside() -> None:
            for number in range(rounds):
                inside.write(BASE, b"%04d" % number)
                inside.write(own, b"%04d" % number)
                assert inside.read(BASE, 4) == b"%04d" % number

        def work_outside() -> None:
            for number in range(rounds):
                task.write(own + 8, b"%04d" % number)
                assert task.read(own + 8, 4) == b"%04d" % number
                try:
                    task.read(BASE, 4)
                except everspace.VasError as error:
                    assert error.errno_name == "EFAULT"
                else:
                    raise AssertionError("the original address space does not show the segment")

        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(work_inside), pool.submit(work_outside)]:
                done.result()
        assert task.read(own, 4) == b"%04d" % (rounds - 1)
        assert inside.read(own + 8, 4) == b"%04d" % (rounds - 1)
