"""Coverage of published intervals by labels that came later: the fleet is run as it would have been then.

    .venv/bin/python -m benchmarks.intervals my/fleet.yaml --origins 2 --json intervals.json

For each past origin, a horizon apart, the table (Parquet, with a time) is cut: labels after the origin are emptied,
rows beyond its horizon are gone. `fleet run` publishes forecasts in a lake of its own, which is thrown away, and the
labels that were taken away judge its quantiles. Nothing of a later row can have a part in them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from assets.evaluation.judge import latest_evaluation
from assets.features.publish import current_features
from assets.forecasts.publish import FORECASTS
from assets.models.quantiles import blocks_of_horizon, quantile_name
from benchmarks.figures import show
from benchmarks.weekly_cycle import FLEET, _fresh_copy, _timed
from resources.lake import Lake
from resources.settings import Settings, read_settings


def main() -> None:
    """Runs the benchmark and prints, or writes, its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--origins", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    origins = list(_origins(given.config.resolve(), given.origins))
    show({"date": datetime.now(UTC).date().isoformat(), "origins": origins}, given.json)


def _origins(config: Path, count: int) -> Iterator[dict[str, Any]]:
    settings = read_settings(config)
    assert settings.time, "a table without time has no horizon"
    table = pd.read_parquet(settings.source.path)
    times = np.sort(table.loc[table[settings.label].notna(), settings.time].unique())
    for number in range(count):
        with tempfile.TemporaryDirectory() as folder:
            yield _origin(config, settings, table, times, number, Path(folder))


def _origin(
    config: Path, settings: Settings, table: pd.DataFrame, times: np.ndarray, number: int, folder: Path
) -> dict[str, Any]:
    horizon = settings.horizon
    assert horizon, "write the horizon into fleet.yaml"
    end = len(times) - number * horizon
    origin, last = times[end - horizon - 1], times[end - 1]
    cut = table[table[settings.time] <= last].copy()
    cut.loc[cut[settings.time] > origin, settings.label] = np.nan
    copy, environment = _fresh_copy(config, folder)
    document = yaml.safe_load(copy.read_text())
    document["source"]["path"] = str(folder / "cut.parquet")
    copy.write_text(yaml.safe_dump(document))
    cut.to_parquet(folder / "cut.parquet", index=False)
    took = _timed([str(FLEET), "run", "--config", str(copy)], environment)
    lake = Lake(uri=document["lake"])
    found, judged = lake.table(FORECASTS).arrow().to_pandas(), latest_evaluation(lake)
    assert judged is not None
    keys = [*settings.segment, settings.time]
    labels = table.drop_duplicates(keys, keep="last")
    joined = _comparable(found, keys).merge(_comparable(labels, keys), on=keys).dropna(subset=[settings.label])
    said = {"origin": str(origin)[:16], "rows": len(joined), "seconds": took["seconds"]}
    return said | _coverage(joined, settings, current_features(lake).recipe.horizon, judged.record["quantiles"])


def _comparable(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Keys as text, so that the same value of another type is the same."""
    times = pd.to_datetime(rows[keys[-1]], utc=True)
    return rows.assign(**{key: rows[key].astype(str) for key in keys[:-1]}, **{keys[-1]: times})


def _coverage(rows: pd.DataFrame, settings: Settings, horizon: int, promised: dict[str, Any] | None) -> dict[str, Any]:
    levels, label = settings.forecasts.quantiles, rows[settings.label]
    low, high = (rows[quantile_name(level)] for level in (levels[0], levels[-1]))
    inside = (label >= low) & (label <= high)
    step = rows[settings.time].rank(method="dense").astype(int)
    by_steps = {f"steps {a} to {b}": round(float(inside[step.between(a, b)].mean()), 4)
                for a, b in blocks_of_horizon(horizon)}  # fmt: skip
    return {
        "wape": round(float((rows["forecast"] - label).abs().sum() / label.abs().sum()), 4),
        **{f"below {quantile_name(x)}": round(float((label <= rows[quantile_name(x)]).mean()), 4) for x in levels},
        "coverage": round(float(inside.mean()), 4),
        "asked": round(levels[-1] - levels[0], 4),
        "promised": promised["intervals"][0]["coverage"] if promised and promised["intervals"] else None,
        "width of labels": round(float((high - low).sum() / label.abs().sum()), 4),
        **by_steps,
    }


if __name__ == "__main__":
    main()
