"""The usual ways to train a model a segment, on the buckets of a made fleet, in fits a second.

    .venv/bin/python -m benchmarks.training --segments 5000 --folder /tmp/made
    .venv/bin/python -m benchmarks.usual_ways --folder /tmp/made --segments 1000 --logged 40 --json usual.json

`applyInPandas`: Spark groups rows by segment, fits in a pandas function, and logs each model to MLflow (SQLite and
files) with `mlflow.lightgbm.log_model`. `joblib`: pandas groups spread over processes, models pickled to disk. Both fit
three models a segment as we do, and keep two.
"""

from __future__ import annotations

import argparse
import os
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from benchmarks.bare_loop import PARAMETERS
from benchmarks.figures import show
from benchmarks.made_fleet import COLUMNS, HORIZON, ROUNDS


def main() -> None:
    """Runs both and prints, or writes, their figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--segments", type=int, default=1_000, help="for joblib")
    parser.add_argument(
        "--logged", type=int, default=40, help="for applyInPandas, where log_model takes seconds a model"
    )
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    files = sorted((given.folder / "lake/features").rglob("part.parquet"))
    frame, used = pd.DataFrame(), []
    while frame.empty or frame["__segment"].nunique() < given.segments:
        used.append(files.pop(0))
        frame = pd.concat([frame, pq.ParquetFile(used[-1]).read(columns=["__segment", "y", *COLUMNS]).to_pandas()])
    kept = frame["__segment"].unique()[: given.segments]
    frame = frame[frame["__segment"].isin(kept) & frame["y"].notna()]
    some = frame[frame["__segment"].isin(kept[: given.logged])]
    with tempfile.TemporaryDirectory() as folder:
        figures = {
            "machine": f"{os.cpu_count()} cores",
            "segments": {"joblib": given.segments, "applyInPandas": given.logged},
            "joblib fits/s": _rate(lambda: _joblib(frame, Path(folder)), given.segments),
            "applyInPandas and log_model fits/s": _rate(lambda: _apply_in_pandas(some, Path(folder)), given.logged),
        }
    show(figures, given.json)


def _rate(work: Callable[[], None], segments: int) -> float:
    began = time.perf_counter()
    work()
    return round(3 * segments / (time.perf_counter() - began), 2)


def _fit_three(own: pd.DataFrame) -> list[Any]:
    import lightgbm as lgb

    x, y = own[COLUMNS].to_numpy(), own["y"].to_numpy()
    cuts = [len(y) - cut for cut in (2 * HORIZON, HORIZON, 0)]
    return [lgb.train(PARAMETERS, lgb.Dataset(x[:upto], y[:upto]), ROUNDS) for upto in cuts]


def _pickled(key: str, own: pd.DataFrame, folder: Path) -> None:
    models = _fit_three(own)
    (folder / f"{key}.pickle").write_bytes(pickle.dumps(models[1:]))


def _joblib(frame: pd.DataFrame, folder: Path) -> None:
    from joblib import Parallel, delayed

    Parallel(n_jobs=os.cpu_count())(delayed(_pickled)(key, own, folder) for key, own in frame.groupby("__segment"))


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
