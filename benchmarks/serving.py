"""Latency and rows a second of `mlflow models serve` with a champion, beside a bare LightGBM booster served alike.

    .venv/bin/python -m benchmarks.serving --folder /tmp/served --segments 1000 --json serving.json

Both servers run at once and are asked in turn, a few requests each, by one client over one kept connection, so that
both see the same machine. Cold: a segment's first request since the server started, so that its booster (and mostly the
features of its bucket) come from the lake. Warm: the same segments again. The bare booster's rows carry its 12 features
and it is always warm; ours carry segment and day. A folder that is there is used again.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import numpy as np

from assets.champions.served_listing import Published
from assets.features.publish import SEGMENTS, current_features
from benchmarks.figures import show
from benchmarks.made_fleet import COLUMNS, make_fleet
from benchmarks.processes import family, resident_bytes
from benchmarks.served_champion import fitted_models, publish, save
from resources.lake import Lake

ROWS, IN_TURN = 730, 10
IDLE = 3.0  # seconds; the server closes a connection after five
ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Runs the benchmark and prints, or writes, its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--segments", type=int, default=1_000)
    parser.add_argument("--rows", type=int, default=ROWS, help="of history a segment")
    parser.add_argument("--requests", type=int, default=300, help="of one row, cold and warm")
    parser.add_argument("--bulk", type=int, default=20, help="requests of 1,000 rows of 1,000 segments")
    parser.add_argument("--models-of", type=Path, help="another folder of this benchmark: lend the models fitted there")
    parser.add_argument("--only-make", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    lake = Lake(uri=str(given.folder / "lake"))
    owner = Lake(uri=str(given.models_of / "lake")) if given.models_of else lake
    models = _made(lake, given.folder, given.segments, given.rows, owner)
    if given.only_make:
        return
    with (
        tempfile.TemporaryDirectory() as scratch,
        _serving(models / "fleet", Path(scratch)) as ours,
        _serving(models / "bare", Path(scratch)) as bare,
    ):
        figures = _figures(lake, ours, bare, given.requests, given.bulk)
    show(
        {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
            "segments": lake.table(SEGMENTS).row_count(),
            **figures,
        },
        given.json,
    )


def _made(lake: Lake, folder: Path, segments: int, rows: int, owner: Lake) -> Path:
    models = folder / "models"
    if not lake.table(SEGMENTS).exists():
        make_fleet(folder, segments, rows, os.cpu_count() or 1)
    if not (models / "fleet").exists():
        boosters = fitted_models(owner)
        published: Published = publish(lake, boosters)
        mlflow.lightgbm.save_model(boosters[0], str(models / "bare"), pip_requirements=["lightgbm"])
        save(published, models / "fleet")
    return models


class Client:
    """One kept connection to a server."""

    def __init__(self, port: int, process: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.process, self._used = process, 0.0

    def seconds(self, content: bytes) -> float:
        """How long one request takes."""
        if time.monotonic() - self._used > IDLE:
            self._connection.close()
            self._connection.connect()
        began = time.perf_counter()
        self._connection.request("POST", "/invocations", content, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        said = answer.read()
        seconds = time.perf_counter() - began
        self._used = time.monotonic()
        assert answer.status == 200, said[:1000]
        return seconds


@contextmanager
def _serving(model: Path, scratch: Path) -> Iterator[Client]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).parent / "mlflow"), "models", "serve", "-m", str(model.resolve())]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow looks for uvicorn there
    environment = {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": f"sqlite:///{scratch}/mlflow.db",
    }
    with (scratch / f"{model.name}.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "-p", str(port), "--env-manager", "local"],
            cwd=scratch,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait(port, process, scratch / f"{model.name}.log")
            yield Client(port, process.pid)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    while process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/ping")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(log.read_text())


def _figures(lake: Lake, ours: Client, bare: Client, requests: int, bulk: int) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    keys = lake.table(SEGMENTS).arrow(["series"])["series"].to_pylist()
    features = current_features(lake)
    days = [str(day.date()) for day in features.profile.times.ahead(features.recipe.horizon)]
    chosen = draw.permutation(len(keys))
    single = [_segments([keys[at]], days[:1]) for at in chosen[:requests]]
    rest = chosen[requests:] if len(keys) > requests + 1000 else chosen
    many = [
        _segments([keys[at] for at in draw.choice(rest, min(1000, len(rest)), False)], days[:1]) for _ in range(bulk)
    ]
    one, thousand = (_bare_rows(draw, rows) for rows in (1, 1000))
    ours.seconds(_segments([keys[chosen[-1]]], days[:1]))  # the first of all loads LightGBM
    for _ in range(IN_TURN):
        bare.seconds(one)
    cold, beside_cold = _in_turn(ours, single, bare, one)
    warm, beside_warm = _in_turn(ours, single, bare, one)
    bulk_cold = [ours.seconds(content) for content in many]
    bulk_warm, bulk_bare = _in_turn(ours, many[-1:] * bulk, bare, thousand)
    return {
        "one row, cold": _latency(cold),
        "one row, warm": _latency(warm),
        "one row, bare booster": _latency(beside_cold + beside_warm),
        "1,000 rows of 1,000 segments, first": {**_latency(bulk_cold), "rows/s": _rate(bulk_cold, 1000)},
        "1,000 rows of 1,000 segments, again": {**_latency(bulk_warm), "rows/s": _rate(bulk_warm, 1000)},
        "1,000 rows, bare booster": {**_latency(bulk_bare), "rows/s": _rate(bulk_bare, 1000)},
        "memory of our server, MB": round(sum(map(resident_bytes, family(ours.process))) / 1e6),
        "memory of the bare server, MB": round(sum(map(resident_bytes, family(bare.process))) / 1e6),
    }


def _in_turn(ours: Client, contents: Sequence[bytes], bare: Client, beside: bytes) -> tuple[list[float], list[float]]:
    found: tuple[list[float], list[float]] = ([], [])
    for start in range(0, len(contents), IN_TURN):
        some = contents[start : start + IN_TURN]
        found[0].extend(ours.seconds(content) for content in some)
        found[1].extend(bare.seconds(beside) for _ in some)
    return found


def _segments(keys: Sequence[str], days: Sequence[str]) -> bytes:
    data = [[key, day] for key in keys for day in days]
    return json.dumps({"dataframe_split": {"columns": ["series", "day"], "data": data}}).encode()


def _bare_rows(draw: np.random.Generator, rows: int) -> bytes:
    data = draw.normal(size=(rows, len(COLUMNS))).tolist()
    return json.dumps({"dataframe_split": {"columns": COLUMNS, "data": data}}).encode()


def _latency(seconds: Sequence[float]) -> dict[str, float]:
    p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1e3
    return {"p50 ms": round(float(p50), 2), "p99 ms": round(float(p99), 2), "requests": len(seconds)}


def _rate(seconds: Sequence[float], rows: int) -> int:
    return round(rows / statistics.median(seconds))


if __name__ == "__main__":
    main()
