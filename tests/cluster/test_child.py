"""A child lives as long as its parent, not as the thread that started it."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cluster.child import LEASH, Child, ClusterError, free_ports, refuse_taken

HOME = Path(__file__).resolve().parent.parent.parent
Ends = Callable[[psutil.Process], bool]
PARENT = """
import sys, threading
from pathlib import Path
from cluster.child import Child
child = Child("sleeper", ["sleep", "600"], Path(sys.argv[1]))
thread = threading.Thread(target=child.start)
thread.start()
thread.join()
print(child.pid, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Child]:
    child = Child("sleeper", ["sleep", "600"], tmp_path / "log")
    yield child
    child.stop()


def test_a_child_outlives_the_thread_that_started_it(sleeper: Child) -> None:
    thread = threading.Thread(target=sleeper.start)
    thread.start()
    thread.join()
    with pytest.raises(psutil.TimeoutExpired):
        psutil.Process(sleeper.pid).wait(0.3)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None])
def test_no_orphan_outlives_its_parent(tmp_path: Path, ends: Ends, how: signal.Signals | None) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "log")]
    with subprocess.Popen(
        command, cwd=HOME, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        if how is None:
            parent.stdin.close()  # the parent comes to its end
        else:
            parent.send_signal(how)
        parent.wait(20)
        assert ends(child)


def test_a_program_whose_parent_died_before_the_kernel_knew_does_not_start(tmp_path: Path) -> None:
    for parent, starts in ((os.getpid(), True), (os.getppid(), False)):
        file = tmp_path / str(parent)
        done = subprocess.run([*LEASH, str(parent), "touch", str(file)])
        assert (file.exists(), done.returncode == 0) == (starts, starts)


def test_a_child_is_not_a_process_of_the_terminal(sleeper: Child) -> None:
    sleeper.start()
    assert os.getsid(sleeper.pid) == sleeper.pid != os.getsid(0)


def test_a_program_that_ends_is_told_with_its_code_and_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("words of the start before\n")
    child = Child("the speaker", ["sh", "-c", "echo no such voice >&2; exit 3"], log)
    child.start()
    with pytest.raises(ClusterError, match=r"the speaker ended with code 3; .*\nno such voice") as told:
        child.wait_until(lambda: False, within_s=20)
    assert "before" not in str(told.value)


def test_waiting_has_an_end(sleeper: Child) -> None:
    sleeper.start()
    with pytest.raises(ClusterError, match=r"sleeper was not ready within 0.2 s; .* is empty"):
        sleeper.wait_until(lambda: False, within_s=0.2)


def test_a_program_that_does_not_heed_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    log = tmp_path / "log"
    child = Child("the deaf", ["sh", "-c", "trap '' TERM; echo ready; exec sleep 600"], log)
    child.start()
    child.wait_until(lambda: b"ready" in log.read_bytes(), within_s=20)
    process = psutil.Process(child.pid)
    child.stop(grace_s=0.2)
    assert not process.is_running()


def test_what_does_not_run_is_not_killed_and_may_be_stopped(sleeper: Child) -> None:
    with pytest.raises(ClusterError, match="does not run"):
        sleeper.kill()
    sleeper.stop()
    sleeper.start()
    with pytest.raises(ClusterError, match="runs already"):
        sleeper.start()


def test_a_taken_port_is_refused_and_a_free_one_is_not() -> None:
    first, second = free_ports(2)
    assert first != second
    refuse_taken(first, "the server")
    with socket.create_server(("127.0.0.1", first)), pytest.raises(ClusterError, match=f"got {first}"):
        refuse_taken(first, "the server")
