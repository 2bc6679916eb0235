"""The usual ways to train a model a segment, on the buckets of a made fleet, in fits a second.

    .venv/bin/python -m benchmarks.training --segments 5000 --folder /tmp/made
    .venv/bin/python -m benchmarks.usual_ways --folder /tmp/made --segments 200 --json usual.json

`applyInPandas`: Spark groups rows by segment, fits in a pandas function, and logs each model to MLflow (SQLite and
files) with `mlflow.lightgbm.log_model`. `joblib`: pandas groups spread over processes, models pickled to disk; it takes
turns with us in `benchmarks.training`. Both fit three models a segment as we do, and keep two.
"""

from __future__ import annotations

import argparse
import os
import pickle
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from benchmarks.bare_loop import PARAMETERS
from benchmarks.figures import show
from benchmarks.made_fleet import COLUMNS, HORIZON, ROUNDS


def main() -> None:
    """Runs `applyInPandas` with `log_model` and prints, or writes, its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--segments", type=int, default=200)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    files = sorted(str(file) for file in (given.folder / "lake/features").rglob("part.parquet"))
    frame = pd.DataFrame()
    while frame.empty or frame["__segment"].nunique() < given.segments:
        frame = pd.concat([frame, _labelled([files.pop(0)])])
    frame = frame[frame["__segment"].isin(frame["__segment"].unique()[: given.segments])]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        _apply_in_pandas(frame, Path(folder))
        seconds = time.perf_counter() - began
    figures = {
        "machine": f"{os.cpu_count()} cores",
        "segments": given.segments,
        "applyInPandas and log_model fits/s": round(3 * given.segments / seconds, 2),
    }
    show(figures, given.json)


def joblib_fits(files: Sequence[str], folder: Path) -> tuple[int, float]:
    """Fits done by joblib over the pandas groups of those buckets, and fits a second: three a segment, two pickled.

    Rows are in memory, and workers up with LightGBM imported, before the clock starts.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    folder.mkdir(parents=True, exist_ok=True)
    processes, groups = os.cpu_count() or 1, list(_labelled(files).groupby("__segment"))
    with Parallel(n_jobs=processes) as parallel:
        parallel(delayed(_pickled)(f"first-{n}", groups[0][1], folder) for n in range(processes))
        began = time.perf_counter()
        parallel(delayed(_pickled)(key, own, folder) for key, own in groups)
        seconds = time.perf_counter() - began
    get_reusable_executor().shutdown()
    return 3 * len(groups), 3 * len(groups) / seconds


def _labelled(files: Sequence[str]) -> pd.DataFrame:
    parts = [pq.ParquetFile(file).read(columns=["__segment", "y", *COLUMNS]).to_pandas() for file in files]
    frame = pd.concat(parts)
    return frame[frame["y"].notna()]


def _fit_three(own: pd.DataFrame) -> list[Any]:
    import lightgbm as lgb

    x, y = own[COLUMNS].to_numpy(), own["y"].to_numpy()
    cuts = [len(y) - cut for cut in (2 * HORIZON, HORIZON, 0)]
    return [lgb.train(PARAMETERS, lgb.Dataset(x[:upto], y[:upto]), ROUNDS) for upto in cuts]


def _pickled(key: str, own: pd.DataFrame, folder: Path) -> None:
    models = _fit_three(own)
    (folder / f"{key}.pickle").write_bytes(pickle.dumps(models[1:]))


def _apply_in_pandas(frame: pd.DataFrame, folder: Path) -> None:
    from resources.spark import Spark

    session, uri = Spark().session(), f"sqlite:///{folder}/mlflow.db"

    def train(own: pd.DataFrame) -> pd.DataFrame:
        import mlflow

        mlflow.set_tracking_uri(uri)
        models, key = _fit_three(own), own["__segment"].iloc[0]
        with mlflow.start_run(run_name=key):
            for name, model in zip(("judged", "served"), models[1:], strict=True):
                mlflow.lightgbm.log_model(model, name=name)
        return pd.DataFrame({"segment": [key], "trees": [models[-1].num_trees()]})

    from mlflow import MlflowClient

    MlflowClient(uri).search_experiments()
    rows = session.createDataFrame(frame).groupBy("__segment").applyInPandas(train, "segment string, trees long")
    assert rows.count() == frame["__segment"].nunique()


if __name__ == "__main__":
    main()
