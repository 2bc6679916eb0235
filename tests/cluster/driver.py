"""A driver process of its own: a process has one Spark session, and that of the tests is local."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any


class Driver:
    """A fresh Python process that runs what it is asked, one thing after the other."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        self.pid: int = self._pool.submit(os.getpid).result(timeout=120)

    def start(self, work: Callable[..., Any], *given: Any, **named: Any) -> Future[Any]:
        """Begins to run a module's function."""
        return self._pool.submit(work, *given, **named)

    def run(self, work: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """What a module's function gave."""
        return self.start(work, *given, **named).result(timeout=400)

    def kill(self) -> None:
        """SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)
        self._pool.shutdown(wait=True)

    def close(self) -> None:
        """Ends it; its Spark session ends with it."""
        self._pool.shutdown(wait=True, cancel_futures=True)
