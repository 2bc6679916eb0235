"""What a server answered, counted: how many requests, how fast, what was refused, and a sample of rows and forecasts.

A thread beside those that answer writes a small JSON document every few minutes; what is counted is of bounded size,
whatever the traffic. Nothing here raises: what cannot be counted or written is not, and the answer is given.
"""

from __future__ import annotations

import atexit
import json
import logging
import math
import os
import random
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import Any

import numpy as np
import pandas as pd

from assets.champions.serving.asked import UNKNOWN
from assets.champions.serving.cache import from_environment
from resources.problems import InputError

LOG = "serving_log"  # folder in the lake
SERVING, SAMPLE = "serving", "serving_sample"  # tables that it is folded into
LOG_VARIABLE, SECONDS_VARIABLE = "FLEET_SERVING_LOG", "FLEET_SERVING_LOG_SECONDS"
OFF, SECONDS = "off", 300.0
# set by `mlflow models serve` for its workers (mlflow.pyfunc.scoring_server): nobody else serves
SERVER_VARIABLE = "__pyfunc_model_path__"
# latencies are counted in steps of 5%, from half a millisecond to a minute
SHORTEST, STEP, STEPS = 0.0005, 1.05, 240
SAMPLED, SAMPLED_A_REQUEST, LONGEST_TEXT, MOST_WAITING = 200, 4, 100, 12

_say = logging.getLogger(__name__)


def log_folder(lake: str | None) -> str | None:
    """Where a server writes what it counted: what FLEET_SERVING_LOG says, else the lake's folder; None for nowhere.

    Without a lake (an export), and where nobody serves (a notebook), only if the variable says so.
    """
    said = os.environ.get(LOG_VARIABLE, "")
    if said:
        return None if said == OFF else said.rstrip("/")
    return f"{lake}/{LOG}" if lake and SERVER_VARIABLE in os.environ else None


@dataclass
class Tally:
    """What was counted since `start` (seconds since 1970)."""

    start: float = field(default_factory=time.time)
    requests: int = 0
    refused: int = 0
    failed: int = 0
    unknown: int = 0
    rows: int = 0
    slowest: float = 0.0
    made_by: Counter[str] = field(default_factory=Counter)
    latency: Counter[int] = field(default_factory=Counter)
    sample: list[dict[str, Any]] = field(default_factory=list)
    offered: int = 0


class Watch:
    """Counts what one process answers; several threads may use it. `given` are columns that are no inputs."""

    def __init__(self, folder: str | None, version: int | None, given: Collection[str] = ()) -> None:
        """Watches nothing where there is no folder.

        Raises:
            InputError: FLEET_SERVING_LOG_SECONDS is no number.
        """
        self._folder, self._version, self._given = folder, version, frozenset(given)
        self._seconds = max(from_environment(SECONDS_VARIABLE, SECONDS), 0.1)
        self._lock, self._tally = Lock(), Tally()
        self._waiting: list[tuple[str, bytes]] = []
        self._process, self._random = "", random.Random()
        self._is_told = False

    def timed(self, rows: Any, answer: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """What `answer` gives or raises, counted."""
        if self._folder is None:
            return answer()
        began = time.perf_counter()
        try:
            given = answer()
        except Exception as error:
            self._counted(time.perf_counter() - began, rows, None, error)
            raise
        self._counted(time.perf_counter() - began, rows, given, None)
        return given

    def _counted(self, seconds: float, rows: Any, given: pd.DataFrame | None, error: Exception | None) -> None:
        try:
            with self._lock:
                self._begin()
                self._count(seconds, error)
                if given is not None and isinstance(rows, pd.DataFrame):
                    self._tally.rows += len(given)
                    self._tally.made_by.update(given["model"].tolist())
                    self._offer(rows, given)
        except Exception:
            _say.debug("a request was not counted", exc_info=True)

    def _begin(self) -> None:
        """Starts the thread that writes, in each process once: servers fork and spawn."""
        process = f"{socket.gethostname()}-{os.getpid()}"
        if self._process.rpartition("-")[0] != process:
            self._process, self._waiting, self._tally = f"{process}-{uuid.uuid4().hex[:8]}", [], Tally()
            self._random = random.Random(self._process)
            atexit.register(self.flush)
            Thread(target=self._write_now_and_then, name="serving-log", daemon=True).start()

    def _count(self, seconds: float, error: Exception | None) -> None:
        tally = self._tally
        tally.requests += 1
        tally.slowest = max(tally.slowest, seconds)
        tally.latency[step_of(seconds)] += 1
        if isinstance(error, InputError):
            tally.refused += 1
            tally.unknown += any(problem.what == UNKNOWN for problem in error.problems)
        elif error is not None:
            tally.failed += 1

    def _offer(self, rows: pd.DataFrame, given: pd.DataFrame) -> None:
        """Rows of a request for the sample: all have the same chance (Vitter 1985, algorithm R)."""
        tally, some = self._tally, min(len(given), SAMPLED_A_REQUEST)
        for at in self._random.sample(range(len(given)), some):
            tally.offered += 1
            place = len(tally.sample) if len(tally.sample) < SAMPLED else self._random.randrange(tally.offered)
            if place < SAMPLED:
                inputs = {str(c): _plain(rows[c].iat[at]) for c in rows.columns if c not in self._given}
                said = {
                    "forecast": _plain(given["forecast"].iat[at]),
                    "model": given["model"].iat[at],
                    "inputs": {name: value for name, value in inputs.items() if value is not None},
                }
                tally.sample[place : place + 1] = [said]

    def _write_now_and_then(self) -> None:
        while True:
            time.sleep(self._seconds)
            self.flush()

    def flush(self) -> None:
        """Writes what was counted; what cannot be written is kept for the next time, as far as there is room."""
        with self._lock:
            tally, self._tally = self._tally, Tally()
            if tally.requests:
                self._waiting = [*self._waiting, self._document(tally)][-MOST_WAITING:]
            waiting, self._waiting = self._waiting, []
        for at, (name, content) in enumerate(waiting):
            try:
                _write(f"{self._folder}/{name}", content)
            except Exception as error:
                with self._lock:
                    self._waiting = [*waiting[at:], *self._waiting][-MOST_WAITING:]
                if not self._is_told:
                    _say.warning("what is served cannot be logged, and is served all the same: %s", error)
                self._is_told = True
                return
        self._is_told = False

    def _document(self, tally: Tally) -> tuple[str, bytes]:
        name = time.strftime(f"%Y-%m-%d/%H%M%S-{self._process}-{uuid.uuid4().hex[:8]}.json", time.gmtime(tally.start))
        said = {**vars(tally), "end": time.time(), "process": self._process, "version": self._version}
        return name, json.dumps(said).encode()


def step_of(seconds: float) -> int:
    """The step of the histogram that a latency is counted in."""
    return min(max(math.ceil(math.log(max(seconds, SHORTEST) / SHORTEST, STEP)), 0), STEPS - 1)


def seconds_of(step: int) -> float:
    """The longest latency that is counted in a step."""
    return SHORTEST * STEP**step


def _plain(value: Any) -> float | str | bool | None:
    """A cell as JSON has it; None where it is empty or nothing that is kept."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, str):
        return value[:LONGEST_TEXT]
    if isinstance(value, (int, float, np.number)):
        return float(value) if math.isfinite(value) else None
    return None


def _write(uri: str, content: bytes) -> None:
    """A file as a whole or not at all, local or in a bucket."""
    import pyarrow.fs as pafs

    system, path = pafs.FileSystem.from_uri(uri) if "://" in uri else (pafs.LocalFileSystem(), uri)
    system.create_dir(path.rpartition("/")[0], recursive=True)
    with system.open_output_stream(f"{path}.tmp") as sink:
        sink.write(content)
    system.move(f"{path}.tmp", path)
