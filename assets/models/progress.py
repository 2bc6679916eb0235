"""Progress of long work: done of total, rate and time left, every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_SECONDS = 3.0


def progress_line(what: str, done: int, total: int, seconds: float) -> str:
    """One line such as `trained 120 of 200 segments (60%), 14.3/s, 6 s left`."""
    rate = done / seconds if seconds > 0 else 0.0
    left = f"{(total - done) / rate:.0f} s left" if rate else "time left unknown"
    share = done / total if total else 1.0
    return f"{what} {done:,} of {total:,} segments ({share:.0%}), {rate:.1f}/s, {left}"


@contextmanager
def progress_reported(what: str, total: int, done: Callable[[], int], say: Callable[[str], None]) -> Iterator[None]:
    """Says how far the work inside is, until it ends; `done` is asked every few seconds and must be cheap."""
    finished, started = threading.Event(), time.monotonic()

    def report() -> None:
        while not finished.wait(EVERY_SECONDS):
            say(progress_line(what, done(), total, time.monotonic() - started))

    thread = threading.Thread(target=report, name=f"progress of {what}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
    say(progress_line(what, done(), total, time.monotonic() - started))
