"""Accuracy over rolling origins beside Nixtla's libraries, on the same rows, origins and horizon.

    .venv/bin/fleet backtest --config my/fleet.yaml --origins 4 --json > ours.json
    python -m venv other && other/bin/pip install mlforecast statsforecast lightgbm 'pandas<3' pyarrow
    other/bin/python benchmarks/accuracy.py --table TABLE --segment A B --time T --label Y --frequency W-FRI \
        --horizon 8 --holdout 8 --season 52 --origins 4 --known-ahead X Z --ours ours.json --json accuracy.json

Needs nothing of this project, so that the others have their own environment. Of each origin (a holdout apart) every
library learns from the rows before it and forecasts the holdout, a horizon at a time, with the rows up to each horizon
known. `mlforecast`: one LightGBM over all segments, with lags and calendar; its parameters are those that its users
start from. WAPE over the rows whose label is known; a segment that a library cannot forecast gets its last label.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def main() -> None:
    """Runs the others and prints, or writes, the figures of all as JSON."""
    given = _arguments()
    frame = _long_frame(given)
    times = np.sort(frame.loc[frame["y"].notna(), "ds"].unique())
    figures: dict[str, Any] = {"table": given.table.name, "origins": []}
    for number in range(given.skip, given.origins):
        end = len(times) - number * given.holdout
        found = _origin(frame, times[: end - given.holdout], times[end - given.holdout : end], given)
        figures["origins"].append(found)
        print(json.dumps(found), flush=True)
    names = [name for name in figures["origins"][0] if name != "origin" and not name.endswith("seconds")]
    figures["mean"] = {name: round(float(np.mean([row[name] for row in figures["origins"]])), 4) for name in names}
    figures["spread"] = {name: round(float(np.std([row[name] for row in figures["origins"]])), 4) for name in names}
    if given.ours:
        ours = json.loads(given.ours.read_text())
        figures["ours"] = {key: ours[key] for key in ("origins", "mean", "spread", "without", "wins")}
    text = json.dumps(figures, indent=2)
    print(text)
    if given.json:
        given.json.write_text(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True, help="Parquet")
    parser.add_argument("--segment", nargs="+", required=True)
    parser.add_argument("--time", required=True)
    parser.add_argument("--label", required=True)
    parser.add_argument("--frequency", required=True)
    parser.add_argument("--horizon", type=int, required=True)
    parser.add_argument("--holdout", type=int, required=True)
    parser.add_argument("--season", type=int, required=True)
    parser.add_argument("--lags", type=int, nargs="+", default=[])
    parser.add_argument("--origins", type=int, default=4)
    parser.add_argument("--skip", type=int, default=0, help="of the origins, so many of the newest are left out")
    parser.add_argument("--known-ahead", nargs="*", default=[])
    parser.add_argument("--ets-rows", type=int, default=2_000, help="AutoETS looks at so many rows of each segment")
    parser.add_argument("--ours", type=Path, help="what `fleet backtest --json` printed")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _long_frame(given: argparse.Namespace) -> pd.DataFrame:
    """One row a segment and time of the grid, from each segment's first row to its last."""
    raw = pd.read_parquet(given.table)
    raw["unique_id"] = raw[given.segment].astype(str).agg("|".join, axis=1)
    raw = raw.rename(columns={given.time: "ds", given.label: "y"})
    raw["ds"] = pd.to_datetime(raw["ds"]).dt.tz_localize(None)
    raw = raw[["unique_id", "ds", "y", *given.known_ahead]].drop_duplicates(["unique_id", "ds"], keep="last")
    parts = []
    for key, own in raw.groupby("unique_id", sort=True):
        grid = pd.date_range(own["ds"].min(), own["ds"].max(), freq=given.frequency)
        whole = own.set_index("ds").drop(columns="unique_id").reindex(grid)
        whole[given.known_ahead] = whole[given.known_ahead].ffill().bfill()
        parts.append(whole.rename_axis("ds").reset_index().assign(unique_id=key))
    frame = pd.concat(parts, ignore_index=True)
    for name in given.known_ahead:
        if not pd.api.types.is_numeric_dtype(frame[name]):
            frame[name] = frame[name].astype("category").cat.codes
        frame[name] = frame[name].astype(float)
    return frame


def _origin(frame: pd.DataFrame, before: np.ndarray, after: np.ndarray, given: argparse.Namespace) -> dict[str, Any]:
    wanted = frame[frame["ds"].isin(after) & frame["y"].notna()][["unique_id", "ds", "y"]]
    found: dict[str, Any] = {"origin": str(before[-1])[:10]}
    for name, forecast in {"mlforecast": _mlforecast, "statsforecast": _statsforecast}.items():
        started, parts = time.perf_counter(), []
        for start in range(0, len(after), given.horizon):
            steps = after[start : start + given.horizon]
            known = frame[frame["ds"] < steps[0]]
            parts.append(forecast(frame, known, steps, before[-1], given))
        said = wanted.merge(pd.concat(parts), on=["unique_id", "ds"], how="left")
        last = wanted["unique_id"].map(frame[frame["ds"] <= before[-1]].dropna().groupby("unique_id")["y"].last())
        for column in [c for c in said if c not in ("unique_id", "ds", "y")]:
            values = said[column].where(np.isfinite(said[column]), last.to_numpy()).fillna(0)
            found[column] = round(float((values - said["y"]).abs().sum() / said["y"].abs().sum()), 4)
        found[f"{name} seconds"] = round(time.perf_counter() - started, 1)
    return found


_fitted: dict[Any, Any] = {}


def _mlforecast(
    frame: pd.DataFrame, known: pd.DataFrame, steps: np.ndarray, origin: Any, given: argparse.Namespace
) -> pd.DataFrame:
    """Fitted once an origin; later horizons of the same holdout get the newer rows."""
    import lightgbm as lgb
    from mlforecast import MLForecast

    filled = known.assign(y=known.groupby("unique_id")["y"].ffill()).dropna(subset=["y"])
    lags = given.lags or sorted({*range(1, 13), given.season})
    parts = ["week", "month"] if given.frequency.startswith("W") else ["hour", "dayofweek", "month"]
    if origin not in _fitted:
        _fitted.clear()
        model = lgb.LGBMRegressor(objective="l1", num_leaves=255, n_estimators=200, learning_rate=0.05, verbosity=-1)
        _fitted[origin] = MLForecast({"mlforecast": model}, freq=given.frequency, lags=lags, date_features=parts)
        learnt = filled[filled["ds"] <= origin]
        _fitted[origin].fit(learnt, static_features=[], dropna=False)
    fitted = _fitted[origin]
    alive = filled.groupby("unique_id")["ds"].max()
    open_ones = alive[alive == known["ds"].max()].index
    future = pd.MultiIndex.from_product([open_ones, steps], names=["unique_id", "ds"]).to_frame(index=False)
    ahead = future.merge(frame.drop(columns="y"), on=["unique_id", "ds"], how="left")
    ahead[given.known_ahead] = ahead.groupby("unique_id")[given.known_ahead].ffill().fillna(0)
    recent = filled[filled["unique_id"].isin(open_ones)]
    return fitted.predict(h=len(steps), new_df=recent, X_df=ahead if given.known_ahead else None)


def _statsforecast(
    frame: pd.DataFrame, known: pd.DataFrame, steps: np.ndarray, origin: Any, given: argparse.Namespace
) -> pd.DataFrame:
    from statsforecast import StatsForecast
    from statsforecast.models import AutoETS, SeasonalNaive

    filled = known.assign(y=known.groupby("unique_id")["y"].ffill()).dropna(subset=["y"])[["unique_id", "ds", "y"]]
    recent = filled.groupby("unique_id").tail(given.ets_rows)
    recent = recent[recent.groupby("unique_id")["ds"].transform("max") == known["ds"].max()]
    # an exponential smoothing of more than 24 seasons of a year is refused by the library itself
    season = given.season if given.season <= 24 else 1
    models = [AutoETS(season_length=season), SeasonalNaive(season_length=given.season)]
    made = StatsForecast(models, freq=given.frequency, n_jobs=1, fallback_model=SeasonalNaive(season_length=1))
    return made.forecast(df=recent, h=len(steps))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main()
