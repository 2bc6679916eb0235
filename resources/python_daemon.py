"""Spark's daemon of Python workers, whose workers end without a word when Spark has closed their sockets.

Started by Spark as `python -m resources.python_daemon pyspark.worker`. A worker that Spark needs no more learns of it
when it answers. Over TCP its answer goes nowhere; over a Unix domain socket it fails, and Spark's own daemon prints a
stack trace at the end of a run in which nothing went wrong.
"""

from __future__ import annotations

from typing import Any

GONE = 1  # to the daemon: this worker takes no more work


def main() -> None:
    """Runs Spark's daemon until Spark ends it."""
    from pyspark import daemon

    work_until_done = daemon.worker

    def worker(*given: Any) -> int:
        try:
            return work_until_done(*given)
        except BrokenPipeError:
            return GONE

    daemon.worker = worker
    daemon.manager()


if __name__ == "__main__":
    main()
