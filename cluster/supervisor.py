"""A process that starts another anew when it dies, from a state in which all is imported already."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import time
from collections.abc import Callable

QUICK_S = 5.0  # who dies sooner than this is started anew after a wait that grows
WAITS_S = (0.0, 1.0, 2.0, 5.0, 10.0)
REFUSED = 2  # exit status of a child that no restart helps: its options or its settings are wrong
_PR_SET_PDEATHSIG = 1

log = logging.getLogger("twinroom.supervisor")


def supervise(what: str, run: Callable[[], int]) -> int:
    """Run in a child, again and again until it is told to stop; the child dies with this process.

    A new Python needs seconds to import what a worker needs; a child of this process needs none of them. So
    call it when all is imported and no thread runs.

    Parameters
    ----------
    what : str
        For the log.
    run : callable
        Runs in the child; its result is the child's exit status.
    """
    stopped = False
    child = 0

    def stop(number: int, _frame: object) -> None:
        nonlocal stopped
        stopped = True
        if child:
            os.kill(child, number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    quick = 0
    while True:
        started = time.monotonic()
        child = _fork(run)
        status = _status_of(child)
        child = 0
        if stopped or status == REFUSED:
            return status if status > 0 else 0
        quick = quick + 1 if time.monotonic() - started < QUICK_S else 0
        wait_s = WAITS_S[min(quick, len(WAITS_S) - 1)]
        ended = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        log.error("%s %s; starting it anew%s", what, ended, f" in {wait_s:g} s" if wait_s else "")
        until = time.monotonic() + wait_s
        while not stopped and time.monotonic() < until:
            time.sleep(0.05)
        if stopped:
            return 0


def _fork(run: Callable[[], int]) -> int:
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:  # else it died before the kernel was told
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            status = run()
    except BaseException:
        logging.getLogger("twinroom.supervisor").exception("the child ends")
    finally:
        os._exit(status)


def _status_of(child: int) -> int:
    """Exit status of a child, or the signal that ended it, negative."""
    while True:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        except InterruptedError:
            continue
