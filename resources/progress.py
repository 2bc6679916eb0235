"""Progress of long work: done of total, rate and time left, every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

EVERY_SECONDS = 3.0
WORTH_NAMING = 1.0


@dataclass(frozen=True)
class Progress:
    """How far work is: units done (segments, usually), and the slowest of them."""

    done: int
    slowest_seconds: float = 0.0
    slowest: str = ""


def progress_line(what: str, so_far: Progress, total: int, seconds: float, unit: str = "segments") -> str:
    """One line such as `trained 120 of 200 segments (60%), 14.3/s, 6 s left, slowest 2.1 s (store 4|bread)`."""
    done = so_far.done
    rate = done / seconds if seconds > 0 else 0.0
    left = f"{(total - done) / rate:.0f} s left" if rate else "time left unknown"
    share = done / total if total else 1.0
    slowest = f", slowest {so_far.slowest_seconds:.1f} s ({so_far.slowest[:60]})"
    shown = slowest if so_far.slowest_seconds >= WORTH_NAMING else ""
    return f"{what} {done:,} of {total:,} {unit} ({share:.0%}), {rate:.1f}/s, {left}{shown}"


@contextmanager
def progress_reported(
    what: str, total: int, so_far: Callable[[], Progress], say: Callable[[str], None], unit: str = "segments"
) -> Iterator[None]:
    """Says how far the work inside is, until it ends; `so_far` is asked every few seconds and must be cheap."""
    finished, started = threading.Event(), time.monotonic()

    def report() -> None:
        while not finished.wait(EVERY_SECONDS):
            say(progress_line(what, so_far(), total, time.monotonic() - started, unit))

    thread = threading.Thread(target=report, name=f"progress of {what}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
    say(progress_line(what, so_far(), total, time.monotonic() - started, unit))
