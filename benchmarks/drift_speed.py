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
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import chi2_contingency, ks_2samp

from assets.drift.bucket import STORED
from assets.drift.judgement import judge
from assets.drift.season import Seasons
from assets.drift.windows import MOST_PAST, Plan, compared
from benchmarks.drift_cases import FIRST, Floats, Made, autoregressive
from benchmarks.figures import show

FEATURES, CATEGORY = 12, 11  # the last one
A_BUCKET = 50
SEASONS = Seasons.of("D")


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


def timed(work: Callable[[Floats, int], Any], buckets: range, rows: int, window: int) -> tuple[float, list[Any]]:
    """Seconds of the work alone, its arrays made before; and what it gave."""
    seconds, found = 0.0, []
    for bucket in buckets:
        values = bucket_of_arrays(bucket, rows)
        start = time.perf_counter()
        result = work(values, window)
        seconds += time.perf_counter() - start
        found.append(result if work is by_windows else None)
    return seconds, found


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


def main() -> None:
    """Runs both, by turns, and prints figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--segments", type=int, default=50_000)
    parser.add_argument("--rows", type=int, default=730, help="of the reference")
    parser.add_argument("--window", type=int, default=7)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    buckets, rows = asked.segments // A_BUCKET, asked.rows + asked.window
    shares = [range(first, buckets, asked.processes) for first in range(asked.processes)]
    walls, works, sent = {}, {}, []
    for name, work in (("scipy", by_scipy), ("ours", by_windows)):
        with ProcessPoolExecutor(asked.processes) as pool:
            start = time.perf_counter()
            done = list(
                pool.map(timed, [work] * len(shares), shares, [rows] * len(shares), [asked.window] * len(shares))
            )
            walls[name] = time.perf_counter() - start
        works[name] = sum(seconds for seconds, _ in done)
        sent = [each for _, found in done for each in found]
    start = time.perf_counter()
    statistics, effects = (
        np.frombuffer(b"".join(parts), kind)
        for parts, kind in zip(zip(*sent, strict=True), (STORED, np.float32), strict=True)
    )
    shaped = statistics.reshape(buckets * A_BUCKET, -1, MOST_PAST + 1), effects.reshape(buckets * A_BUCKET, -1)
    verdict = judge(*shaped, np.zeros(buckets * A_BUCKET, dtype=np.int64), 0.025, 0.3)
    judging = time.perf_counter() - start
    seconds, size = report_seconds(rows, asked.window)
    figures = {
        "segments": buckets * A_BUCKET, "features": FEATURES, "reference rows": asked.rows, "window": asked.window,
        "scipy loop, seconds of work": round(works["scipy"], 1), "ours, seconds of work": round(works["ours"], 1),
        "verdict, seconds": round(judging, 1), "alarmed": int(verdict.drifted.sum()),
        "ours and verdict / scipy": round((works["ours"] + judging) / works["scipy"], 2),
        "milliseconds a segment": {name: round(1000 * each / (buckets * A_BUCKET), 2) for name, each in works.items()},
        "megabytes to the driver": round((statistics.nbytes + effects.nbytes) / 1e6),
        "driver, peak megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "evidently report, seconds a segment": round(seconds, 2), "evidently report, megabytes": round(size / 1e6, 1),
        "evidently reports for all, hours of a core": round(seconds * buckets * A_BUCKET / 3600, 1),
    }  # fmt: skip
    show(figures, asked.json)


if __name__ == "__main__":
    main()
