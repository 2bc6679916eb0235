"""What a look at 50,000 segments of 12 features costs, beside a bare SciPy loop over the same arrays in one run.

Both on the same cores: a process a core, each with its share of the segments, arrays in memory. The loop does nothing
but `scipy.stats.ks_2samp` as Evidently calls it (chi-square for the one category) of the current window against the
reference. Ours finds all that the asset does: seasons taken off, effective sizes, past windows, and then, in one
process, the verdict. Beside it Evidently's report of a segment.
Run: .venv/bin/python -m benchmarks.drift_speed [--segments 50000]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import chi2_contingency, ks_2samp

from assets.drift.bucket import STORED
from assets.drift.judgement import judge
from assets.drift.look import HALF
from assets.drift.season import Seasons
from assets.drift.windows import MOST_PAST, Plan, compared
from benchmarks.drift_cases import FIRST, Floats, Made, autoregressive
from benchmarks.figures import show
from resources.monitoring import Drift

FEATURES, CATEGORY = 12, 11  # the last one
A_BUCKET = 50
SEASONS = Seasons.of("D")
DRIFT = Drift()


def bucket_of_arrays(seed: int, rows: int) -> Floats:
    """Segments, features, rows: AR(1) 0.6, the last feature a category of four."""
    values = autoregressive((A_BUCKET, FEATURES, rows), 0.6, np.random.default_rng(seed))
    values[:, CATEGORY] = np.digitize(values[:, CATEGORY], [-0.8, 0.0, 1.0])
    return values


def by_scipy(values: Floats, window: int) -> list[float]:
    """P-values of a bucket by a bare loop."""
    found = []
    for segment in values:
        for feature in range(FEATURES):
            before, now = segment[feature, :-window], segment[feature, -window:]
            if feature == CATEGORY:
                counts = [np.bincount(part.astype(int), minlength=4) for part in (before, now)]
                found.append(chi2_contingency(np.array(counts)[:, np.sum(counts, axis=0) > 0])[1])
            else:
                found.append(ks_2samp(before, now)[1])
    return found


def by_windows(values: Floats, window: int) -> tuple[bytes, bytes]:
    """Statistics and effects of a bucket as a worker sends them."""
    periods = np.arange(values.shape[2]) + FIRST
    plan = Plan(int(periods[-window - 1]), int(periods[-window - 1]), int(periods[-1]))
    category = np.arange(FEATURES) == CATEGORY
    found = [compared(segment, category, periods, plan, SEASONS) for segment in values]
    statistics, effects = (np.stack([getattr(each, name) for each in found]) for name in ("statistics", "effects"))
    return statistics.astype(STORED).tobytes(), effects.astype(np.float32).tobytes()


@dataclass(frozen=True)
class Measured:
    """Seconds of work of each way, summed over processes, and what ours found."""

    scipy: float
    ours: float
    found: list[tuple[bytes, bytes]]


def measured(buckets: range, rows: int, window: int) -> Measured:
    """Both ways on the same arrays, bucket by bucket in turns, so that whatever else runs slows both."""
    seconds, found = [0.0, 0.0], []
    for bucket in buckets:
        values = bucket_of_arrays(bucket, rows)
        start = time.perf_counter()
        by_scipy(values, window)
        between = time.perf_counter()
        found.append(by_windows(values, window))
        seconds[0] += between - start
        seconds[1] += time.perf_counter() - between
    return Measured(seconds[0], seconds[1], found)


def report_seconds(rows: int, window: int) -> tuple[float, int]:
    """Seconds and bytes of Evidently's HTML report of a segment, the second one: the first loads it."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    made = Made(bucket_of_arrays(0, rows)[:2], np.arange(FEATURES) == CATEGORY)
    names = [f"x{n}" for n in range(FEATURES)]
    definition = DataDefinition(numerical_columns=names[:-1], categorical_columns=names[-1:])
    for segment in made.values:
        frame = pd.DataFrame(segment.T, columns=names)
        start = time.perf_counter()
        sides = [Dataset.from_pandas(part, definition) for part in (frame[-window:], frame[:-window])]
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "report.html"
            Report([DataDriftPreset(num_method="ks", cat_method="chisquare")]).run(*sides).save_html(str(file))
            size = file.stat().st_size
        seconds = time.perf_counter() - start
    return seconds, size


def figures(segments: int, rows: int, window: int, processes: int) -> dict[str, Any]:
    """What is printed."""
    buckets = segments // A_BUCKET
    shares = [range(first, buckets, processes) for first in range(processes)]
    with ProcessPoolExecutor(processes) as pool:
        tasks = [pool.submit(measured, share, rows + window, window) for share in shares]
        done = [task.result() for task in tasks]
    scipy, ours = sum(each.scipy for each in done), sum(each.ours for each in done)
    start = time.perf_counter()
    found = [each for part in done for each in part.found]
    statistics = np.frombuffer(b"".join(each for each, _ in found), STORED).reshape(segments, -1, MOST_PAST + 1)
    effects = np.frombuffer(b"".join(each for _, each in found), np.float32).reshape(segments, -1)
    verdict = judge(statistics, effects, np.zeros(segments, dtype=np.int64), HALF * DRIFT.rate, DRIFT.effect)
    judging = time.perf_counter() - start
    seconds, size = report_seconds(rows + window, window)
    return {
        "segments": segments, "features": FEATURES, "reference rows": rows, "window": window,
        "SciPy loop, seconds of work": round(scipy, 1), "ours, seconds of work": round(ours, 1),
        "verdict, seconds": round(judging, 1), "alarmed": int(verdict.drifted.sum()),
        "ours and verdict / SciPy": round((ours + judging) / scipy, 2),
        "SciPy, milliseconds a segment": round(1000 * scipy / segments, 2),
        "ours, milliseconds a segment": round(1000 * ours / segments, 2),
        "megabytes to the driver": round((statistics.nbytes + effects.nbytes) / 1e6),
        "driver, peak megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "Evidently's report, seconds a segment": round(seconds, 2),
        "Evidently's report, megabytes": round(size / 1e6, 1),
        "Evidently's reports for all, hours of a core": round(seconds * segments / 3600, 1),
    }  # fmt: skip


def main() -> None:
    """Runs both and prints figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--segments", type=int, default=50_000)
    parser.add_argument("--rows", type=int, default=730, help="of the reference")
    parser.add_argument("--window", type=int, default=7)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    show(figures(asked.segments // A_BUCKET * A_BUCKET, asked.rows, asked.window, asked.processes), asked.json)


if __name__ == "__main__":
    main()
