"""How Spark talks with its Python workers, and how they keep memory: settings of the session."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import lru_cache

LONGEST_FOLDER = 60  # a socket's path has 108 bytes at most, its name 42
# freed memory stays with the worker: given back and asked for again it cost a tenth of ingest and features
MEMORY = {
    "spark.executorEnv.ARROW_DEFAULT_MEMORY_POOL": "system",
    "spark.executorEnv.MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    "spark.executorEnv.MALLOC_TRIM_THRESHOLD_": str(1 << 29),
}


def sockets_of_this_machine() -> dict[str, str]:
    """Settings for Unix domain sockets; none where their paths would be too long, or the JVM is another process's.

    A JVM remembers the folder of its first context, which must not go before it does.

    TCP waits for acknowledgements: a task of a Python worker cost 50 ms of a core, and takes 8 over these.
    """
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        return {}
    folder = _folder()
    # a JVM writes other letters than ASCII as its locale has them
    if len(folder) > LONGEST_FOLDER or not folder.isascii():
        return {}
    os.makedirs(folder, mode=0o700, exist_ok=True)  # who cleans /tmp may have taken it from a process that lives long
    return {
        "spark.python.unix.domain.socket.enabled": "true",
        "spark.python.unix.domain.socket.dir": folder,
        "spark.python.daemon.module": "resources.python_daemon",
    }


@lru_cache(maxsize=1)
def _folder() -> str:
    """A folder for sockets that lives as long as this process."""
    folder = tempfile.mkdtemp(prefix="fleet_sockets_")
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: str, maker: int) -> None:
    if os.getpid() == maker:  # and no fork of it, which ends earlier
        shutil.rmtree(folder, ignore_errors=True)
