"""A process and its descendants: who they are, what memory they hold, halting and resuming them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any


def family(pid: int) -> list[int]:
    """A process and all its descendants, parents first; empty once it is gone."""
    try:
        children = [int(c) for t in Path(f"/proc/{pid}/task").iterdir() for c in (t / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(descendant for child in children for descendant in family(child))]


def resident_bytes(pid: int) -> int:
    """Proportional set size where the kernel gives it (shared pages count once in all), else the resident size."""
    for file, field in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        try:
            lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
        except OSError:
            continue
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), 0)
    return 0


def role(pid: int) -> str:
    """`jvm`, `worker` (a Python process that Spark started, or its child) or `driver`."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "driver"
    if "/java" in command.split(" ")[0]:
        return "jvm"
    return "worker" if "pyspark" in command else "driver"


@contextmanager
def halted(pid: int) -> Iterator[None]:
    """The process and its descendants do nothing while the `with` block runs."""
    members = family(pid)
    for member in members:
        _send(member, signal.SIGSTOP)
    try:
        yield
    finally:
        for member in reversed(members):
            _send(member, signal.SIGCONT)


def raced(work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> tuple[int, float]:
    """Runs `work` in a process for each tuple of arguments; gives what they did together, and how much a second.

    `work` gets its arguments, a barrier to wait at when it is ready, and a queue for how much it did. Time counts from
    the barrier on, for each process until it is done: one with less to do does not count as idle.
    """
    context = get_context("spawn")
    start, results = context.Barrier(len(arguments) + 1), context.Queue()
    processes = [context.Process(target=work, args=(*own, start, results)) for own in arguments]
    for process in processes:
        process.start()
    start.wait()
    began = time.perf_counter()
    done = [(results.get(), time.perf_counter() - began) for _ in processes]
    for process in processes:
        process.join()
    return sum(much for much, _ in done), sum(much / seconds for much, seconds in done)


def _send(pid: int, what: signal.Signals) -> None:
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        return
