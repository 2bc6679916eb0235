"""What a backtest says: errors by candidate and origin, by stretch of the horizon, and what each candidate is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from assets.evaluation.backtest import Origin
from assets.evaluation.report import SERVES
from assets.models.blend import CANDIDATES, alone
from assets.models.error_sums import LOSSES, SCALES, metric_of
from assets.models.line import FLEET_MODEL, MEDIAN
from assets.models.quantiles import blocks_of_horizon
from assets.presentation import VIOLET, new_figure
from assets.raw.recipe import Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
SERVED = "served"


def candidates_of(recipe: Recipe) -> list[str]:
    """Candidates that a recipe has, in the order of `CANDIDATES`."""
    absent = {
        *([] if recipe.fleet_rows else [FLEET_MODEL]),
        *([MEDIAN] if recipe.model["objective"] == "binary" else []),
    }
    return [name for name in CANDIDATES if name not in absent]


def backtest_record(origins: Sequence[Origin], starts: Sequence[str], recipe: Recipe) -> dict[str, Any]:
    """Errors of every candidate and of what is served: by origin (named by `starts`), by block of the horizon.

    `without`: what would be served if there were no such candidate; `wins`: share of segments in which it erred least.
    """
    names = candidates_of(recipe)
    by_origin = [
        {"origin": start, "segments": len(each.points), "seconds": round(each.seconds, 1)}
        | _errors(each, names, recipe)
        for start, each in zip(starts, origins, strict=True)
    ]
    wins = np.mean([_wins(each, names) for each in origins], axis=0)
    blocks = blocks_of_horizon(recipe.horizon)
    return {
        "metric": recipe.metric,
        "origins": by_origin,
        "mean": _over(by_origin, names, np.mean),
        "spread": _over(by_origin, names, np.std),
        "without": {
            name: float(np.mean([_error(each.without[name], each, recipe) or np.nan for each in origins]))
            for name in names[1:]
        },
        "wins": dict(zip(names, wins.tolist(), strict=True)),
        "horizon": [
            {"steps": f"{first} to {last}" if last > first else str(first)}
            | {
                name: float(np.mean([_errors(each, names, recipe, [number])[name] or np.nan for each in origins]))
                for name in [SERVED, *names]
            }
            for number, (first, last) in enumerate(blocks)
        ],
    }


def _errors(
    origin: Origin, names: Sequence[str], recipe: Recipe, blocks: Sequence[int] | None = None
) -> dict[str, float | None]:
    points_of = {SERVED: origin.points, **{name: np.full(len(origin.points), alone(name)) for name in names}}
    return {name: _error(points, origin, recipe, blocks) for name, points in points_of.items()}


def _error(
    points: NDArray[np.int64], origin: Origin, recipe: Recipe, blocks: Sequence[int] | None = None
) -> float | None:
    part = slice(None) if blocks is None else list(blocks)
    total = origin.losses[part][:, np.arange(len(points)), points].sum()
    sums = dict(zip(SCALES, origin.scales[part].sum(axis=(0, 1)).tolist(), strict=True))
    return metric_of(recipe.metric, {**sums, f"x_{LOSSES[recipe.metric]}": total}, "x")


def _wins(origin: Origin, names: Sequence[str]) -> Floats:
    losses = origin.losses.sum(axis=0)[:, [alone(name) for name in names]]
    best = np.bincount(losses.argmin(axis=1), minlength=len(names))
    return best / max(1, best.sum())


def _over(by_origin: Sequence[dict[str, Any]], names: Sequence[str], how: Any) -> dict[str, float]:
    return {
        name: float(how([np.nan if row[name] is None else row[name] for row in by_origin])) for name in [SERVED, *names]
    }


def origin_table(record: dict[str, Any]) -> pd.DataFrame:
    """A row an origin, then mean and spread (population standard deviation)."""
    return pd.DataFrame(
        [*record["origins"], {"origin": "mean", **record["mean"]}, {"origin": "spread", **record["spread"]}]
    )


def candidate_table(record: dict[str, Any]) -> pd.DataFrame:
    """A row a candidate: its error, the segments it wins, and what would be served without it."""
    return pd.DataFrame(
        [
            {
                "candidate": name,
                record["metric"]: record["mean"][name],
                "wins, share of segments": record["wins"].get(name),
                "served without it": record["without"].get(name),
            }
            for name in record["mean"]
        ]
    )


def horizon_table(record: dict[str, Any]) -> pd.DataFrame:
    """A row a stretch of the horizon: errors of every candidate."""
    return pd.DataFrame(record["horizon"])


def origins_plot(record: dict[str, Any]) -> Figure:
    """Error by origin, a line a candidate, the newest origin on the right."""
    rows = record["origins"][::-1]
    return _lines(f"{record['metric']} by origin", [row["origin"][:10] for row in rows], rows, record)


def horizon_plot(record: dict[str, Any]) -> Figure:
    """Error by stretch of the horizon, a line a candidate."""
    rows = record["horizon"]
    return _lines(f"{record['metric']} by steps ahead", [row["steps"] for row in rows], rows, record)


def _lines(title: str, labels: Sequence[str], rows: Sequence[dict[str, Any]], record: dict[str, Any]) -> Figure:
    figure, axes = new_figure(title, 6.2, 3.4)
    for name in record["mean"]:
        errors = [np.nan if row[name] is None else row[name] for row in rows]
        style = {"color": VIOLET, "lw": 2.4} if name == SERVED else {"color": SERVES[name], "lw": 1.2}
        axes.plot(range(len(rows)), errors, marker="o", ms=3, label=name, **style)
    axes.set_xticks(range(len(rows)), labels)
    axes.legend(frameon=False, fontsize=8)
    return figure
