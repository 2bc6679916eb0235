"""Work on many items in a child process, so that one that hangs or kills its process fails alone."""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any


@dataclass(frozen=True)
class Lost:
    """An item that gave nothing, and why."""

    reason: str


def isolated(
    work: Callable[[int], Any], items: Sequence[int], *, time_limit: float, retries: int = 1
) -> Iterator[tuple[int, Any]]:
    """Each item with what `work` gave for it, or a `Lost`, in their order.

    One forked child works through the items and inherits this process's memory without a copy; only what `work` gives
    crosses a pipe. An item that takes longer than `time_limit` seconds, or whose child dies, is tried again `retries`
    times in a new child, and then lost; those finished before it are kept. `work` must not raise.
    """
    attempts: Counter[int] = Counter()
    left = list(items)
    while left:
        with _Child(work, left) as child:
            while left:
                outcome = child.next_outcome(time_limit)
                if isinstance(outcome, Lost):
                    attempts[left[0]] += 1
                    if attempts[left[0]] > retries:
                        yield left.pop(0), outcome
                    break
                yield left.pop(0), outcome


class _Child:
    """A forked process that sends what `work` gives for each item."""

    def __init__(self, work: Callable[[int], Any], items: Sequence[int]) -> None:
        fork = multiprocessing.get_context("fork")
        self._reader, writer = fork.Pipe(duplex=False)
        self._process: BaseProcess = fork.Process(target=_serve, args=(work, list(items), writer, self._reader))
        self._process.start()
        writer.close()

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._reader.close()

    def next_outcome(self, time_limit: float) -> Any:
        """What the next item gave; `Lost` if the child died over it or it took too long."""
        if not self._reader.poll(time_limit):
            return Lost(f"took longer than {time_limit:g} s")
        try:
            return self._reader.recv()
        except (EOFError, OSError):  # OSError: it died in the middle of what it sent
            self._process.join()
            return Lost(f"killed its worker ({_cause(self._process.exitcode or 0)})")


def _serve(work: Callable[[int], Any], items: Sequence[int], writer: Connection, reader: Connection) -> None:
    reader.close()
    for item in items:
        writer.send(work(item))


def _cause(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit code {exit_code}"
    named = f", {signal.Signals(-exit_code).name}" if -exit_code in set(signal.Signals) else ""
    return f"signal {-exit_code}{named}"
