"""The other side of the training benchmark: LightGBM in a loop, one process a core, models compressed to disk."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.made_fleet import COLUMNS, HORIZON, ROUNDS
from benchmarks.processes import raced

PARAMETERS = {
    "objective": "regression", "learning_rate": 0.05, "num_leaves": 31, "max_bin": 63, "min_data_in_leaf": 20,
    "seed": 0, "deterministic": True, "force_row_wise": True, "num_threads": 1, "verbosity": -1,
}  # fmt: skip


def bare_fits(files_by_process: Sequence[Sequence[str]], folder: Path) -> tuple[int, float]:
    """Fits done, and fits a second: three a segment (up to fold, holdout, end), the last two written with Zstandard.

    Rows are in memory before the clock starts.
    """
    folders = [str(folder / f"bare-{n}") for n in range(len(files_by_process))]
    return raced(_fit_all, [(list(files), own) for files, own in zip(files_by_process, folders, strict=True)])


def _fit_all(files: Sequence[str], folder: str, start: Barrier, results: Any) -> None:
    import lightgbm as lgb

    Path(folder).mkdir(parents=True, exist_ok=True)
    loaded = [_segments(file) for file in files]
    lgb.train({**PARAMETERS, "verbosity": -1}, lgb.Dataset(np.ones((50, 1)), np.arange(50.0)), 1)
    start.wait()
    fits = 0
    for number, segments in enumerate(loaded):
        rows = []
        for key, x, y in segments:
            models = []
            for cut in (2 * HORIZON, HORIZON, 0):
                upto = len(y) - cut
                booster = lgb.train(PARAMETERS, lgb.Dataset(x[:upto], y[:upto]), ROUNDS)
                models.append(booster)
                fits += 1
            texts = [pa.compress(m.model_to_string().encode(), "zstd", asbytes=True) for m in models[1:]]
            rows.append({"segment": key, "judged": texts[0], "served": texts[1]})
        pq.write_table(pa.Table.from_pylist(rows), f"{folder}/{number}.parquet", compression="none")
    results.put(fits)


def _segments(file: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    frame = pq.ParquetFile(file).read(columns=["__segment", "y", *COLUMNS]).to_pandas()
    frame = frame[frame["y"].notna()]
    groups = frame.groupby("__segment", sort=False)
    return [(str(key), own[COLUMNS].to_numpy(), own["y"].to_numpy()) for key, own in groups]
