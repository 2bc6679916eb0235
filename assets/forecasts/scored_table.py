"""A table that a user brought, written back whole and in order, with the forecasts of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.fs as pafs

from assets.evaluation.incumbent import Champion
from assets.evaluation.issues import free_name
from assets.features.brought import REFUSED, original_columns
from assets.models.line import BLEND, SEGMENT_MODEL, TRAINED, weight_column
from assets.models.quantiles import quantile_name
from assets.models.store import as_listing
from assets.raw.parse import KEY, PERIOD, SOURCE
from assets.raw.source import FILE, ROW, format_of
from resources.files import copy_from, filesystem
from resources.frames import frame_of, save_frame
from resources.location import is_local
from resources.problems import InputError, Problem
from resources.spark import Spark, quoted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

SCORED = pa.schema([(KEY, pa.string()), (PERIOD, pa.int32()), ("forecast", pa.float64()), ("model", pa.string())])
UNKNOWN, BETTER, NO_FEATURES = "unknown_segment", "_was_better", "beyond_the_models_horizon"
WHY, HAS_PART = "__why", "__has_part"
CSV = {
    "header": "true", "quote": '"', "escape": '"', "compression": "none",
    "ignoreLeadingWhiteSpace": "false", "ignoreTrailingWhiteSpace": "false",
}  # fmt: skip


def scored_schema(levels: Sequence[float]) -> pa.Schema:
    """The columns of files of forecasts: `SCORED`, and quantiles of some levels."""
    return pa.schema([*SCORED, *((quantile_name(level), pa.float64()) for level in levels)])


def check_output(out: str) -> None:
    """Raises an `InputError` unless `out` ends as a table that can be written."""
    if format_of(out) not in ("parquet", "csv") or out.endswith(".gz"):
        raise InputError([Problem(f"--out {out}", "is neither Parquet nor CSV", "end it in .parquet or .csv")])


def write_scored(
    spark: Spark,
    rows: DataFrame,
    scored: list[str],
    champion: Champion,
    levels: Sequence[float],
    out: str,
    folder: str,
) -> None:
    """Writes brought rows (see `stage_brought`) with their forecasts (see `scored_schema`) to `out`, never in part.

    `folder` is for files that are gone afterwards.

    Raises:
        InputError: CSV cannot hold a column of the table.
    """
    from pyspark.sql import functions as F

    _refuse_nested(rows, out)
    if format_of(out) == "csv" and not is_local(folder):
        what = "CSV is written by Spark, which cannot write to a lake in a bucket"
        raise InputError([Problem(f"--out {out}", what, "end it in .parquet")])
    columns = original_columns(rows)
    whole = _with_forecasts(spark, rows, scored, champion, levels).repartition(1).sortWithinPartitions(FILE, ROW)
    result = whole.select(
        *[F.col(f"{SOURCE}.{quoted(name)}").alias(name) for name in columns],
        *[F.expr(value).alias(free_name(name, columns)) for name, value in _added(champion.version, levels).items()],
    )
    if format_of(out) == "csv":
        result.write.options(**CSV).csv(folder)
    else:
        save_frame(result, folder)
    system, path = filesystem(folder)
    parts = [info.path for info in system.get_file_info(pafs.FileSelector(path)) if "/part-" in info.path]
    copy_from(system, parts[0], out)


def _refuse_nested(rows: DataFrame, out: str) -> None:
    types = {field.name: field.dataType.simpleString() for field in rows.schema[SOURCE].dataType}
    nested = [name for name, type_ in types.items() if type_.startswith(("array", "map", "struct", "binary"))]
    if format_of(out) == "csv" and nested:
        what = f"CSV cannot hold {', '.join(f'{name!r} ({types[name]})' for name in nested)}"
        raise InputError([Problem(f"--out {out}", what, "end it in .parquet")])


def _with_forecasts(
    spark: Spark, rows: DataFrame, scored: list[str], champion: Champion, levels: Sequence[float]
) -> DataFrame:
    """Brought rows with forecast and model, and why a segment's own model has no part in it (null: it is unknown)."""
    from pyspark.sql import functions as F
    from pyspark.sql.pandas.types import from_arrow_schema

    session, schema = spark.session(), from_arrow_schema(scored_schema(levels))
    found = frame_of(session, scored, scored_schema(levels)) if scored else None
    columns = ["segment", "status", "reason", "chosen", weight_column(SEGMENT_MODEL)]
    served = session.createDataFrame(as_listing(champion.listing).select(columns))
    has_part = f"coalesce({weight_column(SEGMENT_MODEL)} > 0, chosen = '{SEGMENT_MODEL}')"
    why = (
        f"case when status <> '{TRAINED}' then reason when not {has_part} then chosen || '{BETTER}' "
        f"else '{NO_FEATURES}' end"
    )
    known = served.select(F.col("segment").alias(KEY), F.expr(why).alias(WHY), F.expr(has_part).alias(HAS_PART))
    forecasts = session.createDataFrame([], schema) if found is None else found
    return rows.join(forecasts, [KEY, PERIOD], "left").join(known, KEY, "left")


def _added(version: int, levels: Sequence[float]) -> dict[str, str]:
    """Columns that come to the user's own, as Spark SQL."""
    own = f"model = '{SEGMENT_MODEL}' or (model = '{BLEND}' and coalesce({HAS_PART}, false))"
    return {
        "forecast": "forecast",
        "model": "model",
        "version": f"if(forecast is null, null, {version}L)",
        "reason": f"coalesce({REFUSED}, if({own}, null, coalesce({WHY}, '{UNKNOWN}')))",
        **{name: name for name in map(quantile_name, levels)},
    }
