"""Forecasts in a table and a plot: history and forecast of three segments, and the segments that change most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from assets.evaluation.issues import output_name
from assets.evaluation.report import SERVES
from assets.features.publish import SEGMENTS, FeatureSet
from assets.features.rebuild import committed_files
from assets.forecasts.publish import FORECASTS, Forecasts
from assets.models.quantiles import quantile_name
from assets.presentation import GREY
from assets.raw.parse import KEY, PERIOD, TIME
from assets.raw.recipe import Recipe
from resources.files import filesystem
from resources.lake import Lake

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN, WORST, HORIZONS_OF_HISTORY = 3, 10, 4


def shown_segments(lake: Lake, features: FeatureSet) -> list[dict[str, object]]:
    """Three open segments of most labelled rows: their key, bucket and key columns."""
    segments = lake.table(SEGMENTS).arrow(version=features.record["segments_version"])
    still_open = segments.filter(segments["__open"])
    order = [("__labelled", "descending"), (KEY, "ascending")]
    return still_open.sort_by(order).slice(0, SHOWN).to_pylist()


def forecast_plot(lake: Lake, features: FeatureSet, levels: Sequence[float]) -> Figure:
    """Of three segments history (grey), forecast (in the colour of who serves), and its outermost quantiles."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    chosen, recipe = shown_segments(lake, features), features.recipe
    figure = Figure(figsize=(9, 2.3 * max(1, len(chosen))), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, segment in zip(np.atleast_1d(figure.subplots(max(1, len(chosen)), 1)), chosen, strict=False):
        history = _history(lake, features, segment)
        axes.plot(history[TIME], history[recipe.label], color=GREY, lw=1)
        ahead = _ahead(lake, recipe, segment)
        for model, colour in SERVES.items():
            part = ahead[ahead[output_name("model", recipe)] == model].sort_values(recipe.time_columns)
            axes.plot(part[recipe.time], part[output_name("forecast", recipe)], color=colour, lw=1.4, label=model)
            if len(levels) > 1:
                low, high = (part[output_name(quantile_name(level), recipe)] for level in (levels[0], levels[-1]))
                axes.fill_between(part[recipe.time], low, high, color=colour, alpha=0.18, lw=0)
        locator = AutoDateLocator()
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes.set_title(str(segment[KEY])[:80], loc="left", fontsize=10, parse_math=False)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _ahead(lake: Lake, recipe: Recipe, segment: dict[str, object]) -> pd.DataFrame:
    rows = lake.table(FORECASTS).arrow()
    for column in recipe.segment:
        rows = rows.filter(pc.equal(rows[column], pa.scalar(segment[column], rows[column].type)))
    return rows.to_pandas()


def _history(lake: Lake, features: FeatureSet, segment: dict[str, object]) -> pd.DataFrame:
    recipe, last = features.recipe, features.profile.last_period
    parts = []
    for file in committed_files(lake, features)[int(str(segment["fleet_bucket"]))]:
        system, path = filesystem(file)
        rows = pq.ParquetFile(system.open_input_file(path)).read(columns=[KEY, PERIOD, TIME, recipe.label])
        parts.append(rows.filter(pc.equal(rows[KEY], segment[KEY])).to_pandas())
    frame = pd.concat(parts)
    return frame[(frame[PERIOD] <= last) & (frame[PERIOD] > last - HORIZONS_OF_HISTORY * recipe.horizon)]


def least_certain(lake: Lake, forecasts: Forecasts, features: FeatureSet) -> pd.DataFrame:
    """The ten segments whose forecasts rest most on assumed values, then on the baseline."""
    recipe = features.recipe
    assumed, model, value = (output_name(name, recipe) for name in ("assumed", "model", "forecast"))
    rows = lake.table(FORECASTS).arrow([*recipe.segment, assumed, model, value], version=forecasts.version).to_pandas()
    rows["baseline rows"] = rows[model] == "baseline"
    grouped = rows.groupby(recipe.segment, dropna=False, sort=True).agg(
        **{
            "assumed rows": (assumed, "sum"),
            "baseline rows": ("baseline rows", "sum"),
            "mean forecast": (value, "mean"),
        }
    )
    order = ["assumed rows", "baseline rows", "mean forecast"]
    return grouped.sort_values(order, ascending=False).head(WORST).reset_index()
