"""Rows without time: each stands by a hash of itself in one of three classes, and that takes the place of a period.

Class 0 (about 80% of the rows) is what fold models are trained on, class 1 (10%) the fold on which model or baseline is
chosen, class 2 (10%) the holdout. A row's period is its class times `ROWS_A_CLASS` plus its rank in segment and class,
so that whatever cuts by period cuts between classes. The class depends on nothing but the row: other rows, their order
and their number never move it, and rows that are the same never lie on two sides of a cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assets.raw.cells import is_number, number_in
from assets.raw.parse import SOURCE
from resources.spark import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.sql import DataFrame

HASH = "__hash"
ROWS_A_CLASS = 1 << 29  # three classes fit a 32-bit integer
LAST_ROW = 3 * ROWS_A_CLASS - 1
EVERYTHING = 1 << 31  # more periods than there can be
CLASS = f"(case pmod({HASH}, 10) when 9 then 2 when 8 then 1 else 0 end)"


def with_hash(parsed: DataFrame, columns: Sequence[str]) -> DataFrame:
    """Parsed rows with `__hash`, 64 bits of some columns of the raw row.

    A number counts by its value, whether it comes as an integer, a decimal or as text, so that the same row of a CSV
    file and of a Parquet file, or after an empty cell made a column of integers one of decimals, is the same.
    """
    from pyspark.sql import functions as F

    types = {field.name: field.dataType.simpleString() for field in parsed.schema[SOURCE].dataType}
    cells = [_cell(f"{SOURCE}.{quoted(column)}", types[column]) for column in sorted(columns)]
    return parsed.withColumn(HASH, F.expr(f"xxhash64({', '.join(cells)})"))


def _cell(name: str, type_: str) -> str:
    if is_number(type_):
        text = f"cast(nanvl(cast({name} as double), null) as string)"
    elif type_ == "string":
        text = f"coalesce(cast({number_in(f'trim({name})')} as string), {name})"
    else:
        text = f"cast({name} as string)"
    # a hash passes over null, and so would not know which of two columns a cell is in
    return f"coalesce({text}, '')"
