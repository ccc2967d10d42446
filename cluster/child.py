"""A program that lives no longer than the one that started it."""

from __future__ import annotations

import atexit
import os
import queue
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Self

from streams.cluster import ClusterError

POLL_S = 0.1
TAIL_LINES = 25

# Below the range from which Linux takes the ports of outgoing connections (32768 up): a client that
# reconnects to a dead server's port there can get that very port for itself and then talks to itself.
FREE_PORTS = range(20_000, 32_000)

# The kernel kills the program when its parent dies. A parent that died before the kernel was told so is
# found out by its number: the shell, which the program then replaces, has another parent by now.
LEASH = ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"']


def free_ports(n: int) -> list[int]:
    """Ports of the loopback address that nobody listens on now."""
    found: list[int] = []
    for port in random.sample(FREE_PORTS, len(FREE_PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == n:
            return found
    raise ClusterError(
        f"{n} free ports of 127.0.0.1 wanted in {FREE_PORTS.start}-{FREE_PORTS.stop}, {len(found)} found"
    )


def accepts(port: int) -> bool:
    """Whether somebody listens on that port of the loopback address."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False


def refuse_taken(port: int, name: str) -> None:
    """Raise ClusterError if somebody listens there: a probe would take him for the new server."""
    if accepts(port):
        raise ClusterError(f"port of {name}: got {port}, on which another program listens already")


def missing(*programs: str) -> str | None:
    """What of these programs the machine lacks, in words; None if nothing."""
    absent = [name for name in (*programs, "setpriv") if shutil.which(name) is None]
    return f"not installed: {', '.join(absent)} (`make broker` installs them)" if absent else None


class Child:
    """One program, its log and its end.

    The kernel kills it when this process dies, however it dies: no orphan keeps a port or a folder. An
    orderly end of Python stops it with SIGTERM first. It has its own session, so that Ctrl-C in a terminal
    reaches this process alone, which then stops what it started in its own order.

    Parameters
    ----------
    name
        For messages.
    command
        Program and arguments; no shell.
    log
        Its standard output and error are added to this file.
    """

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name = name
        self.command = command
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._log_start = 0

    @property
    def pid(self) -> int:
        """Process identifier; ClusterError if it does not run."""
        self.check()
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the program; returns at once."""
        if self.is_running:
            raise ClusterError(f"{self.name} runs already, as process {self.pid}")
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self._process = _spawn([*LEASH, str(os.getpid()), *self.command], log.fileno())
        self._owner = os.getpid()
        _running.add(self)

    def check(self) -> None:
        """Raise ClusterError if the program does not run."""
        if self._process is None:
            raise ClusterError(f"{self.name} does not run: it was stopped or never started")
        code = self._process.poll()
        if code is not None:
            raise ClusterError(f"{self.name} ended with code {code}; {self.tail()}")

    def wait_until(self, is_ready: Callable[[], bool], within_s: float) -> None:
        """Ask every 100 ms until the answer is yes; ClusterError if the program ends or time is up."""
        deadline = time.monotonic() + within_s
        while not is_ready():
            self.check()
            if time.monotonic() > deadline:
                raise ClusterError(f"{self.name} was not ready within {within_s:g} s; {self.tail()}")
            time.sleep(POLL_S)
        self.check()

    def tail(self) -> str:
        """The last lines that this start of the program wrote."""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            lines = log.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join([f"the end of {self.log}:", *lines]) if lines else f"{self.log} is empty"

    def stop(self, grace_s: float = 20.0) -> int:
        """SIGTERM, and SIGKILL if it is still there after the grace; the exit status, 0 if it did not run."""
        status = 0
        if self.is_running:
            assert self._process is not None
            self._process.terminate()
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
            status = self._process.wait()
        self._forget()
        return status

    def wait(self, within_s: float) -> int:
        """Exit status of a program that ends by itself; subprocess.TimeoutExpired if it does not."""
        assert self._process is not None
        status = self._process.wait(within_s)
        self._forget()
        return status

    def kill(self) -> None:
        """SIGKILL: the end that a power cut or the kernel's memory killer makes."""
        self.check()
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._forget()

    def _forget(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None
        _running.discard(self)

    def _stop_at_exit(self) -> None:
        if self._owner == os.getpid():  # a fork of this process inherits the list, not the children
            self.stop()


class Server:
    """What runs one child that others are served by; as a context manager it is started and stopped."""

    child: Child

    def start(self) -> None:
        """Start, and return when it serves."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop in order; nothing if it does not run."""
        self.child.stop()

    def kill(self) -> None:
        """Kill -9."""
        self.child.kill()

    def restart(self) -> None:
        """Stop if it runs, and start on what it kept and the same ports."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


_running: weakref.WeakSet[Child] = weakref.WeakSet()
_orders: queue.SimpleQueue[tuple[list[str], int, Future[subprocess.Popen[bytes]]]] = queue.SimpleQueue()
_spawner: threading.Thread | None = None
_spawner_lock = threading.Lock()


def _spawn(command: list[str], log: int) -> subprocess.Popen[bytes]:
    """Start a program from a thread that lives as long as this process.

    The kernel's "death of the parent" is the death of the thread that started the child: a start from a
    worker thread (`asyncio.to_thread`) would lose its server with that thread.
    """
    global _spawner
    with _spawner_lock:
        if _spawner is None or not _spawner.is_alive():
            _spawner = threading.Thread(target=_spawn_for_ever, name="spawner of servers", daemon=True)
            _spawner.start()
    started: Future[subprocess.Popen[bytes]] = Future()
    _orders.put((command, log, started))
    return started.result()


def _spawn_for_ever() -> None:
    while True:
        command, log, started = _orders.get()
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        except OSError as error:
            started.set_exception(ClusterError(f"cannot start {command[0]}: {error}"))
        else:
            started.set_result(process)


@atexit.register
def _stop_running() -> None:
    for child in list(_running):
        child._stop_at_exit()
