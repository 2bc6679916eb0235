"""A bucket of the feature table as arrays, segment by segment; read by workers with PyArrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.raw.parse import KEY, PERIOD
from assets.raw.recipe import Recipe

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class SegmentRows:
    """Rows of one segment, by period: `x` (rows, features), `labels` (NaN: unknown or future)."""

    key: str
    periods: Ints
    labels: Floats
    x: Floats
    first_row: int

    def through(self, period: int) -> tuple[Floats, Floats]:
        """Features and labels of the labelled rows up to a period."""
        known = (self.periods <= period) & ~np.isnan(self.labels)
        return self.x[known], self.labels[known]

    def at(self, periods: Ints) -> tuple[Floats, NDArray[np.bool_]]:
        """A row of features for each of some periods, and which of them the segment has a row for."""
        places, there = self.places(periods)
        return self.x[places - self.first_row], there

    def places(self, periods: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """The bucket's row for each of some periods, and which of them the segment has a row for."""
        found = np.searchsorted(self.periods, periods)
        inside = np.minimum(found, len(self.periods) - 1)
        return self.first_row + inside, (found < len(self.periods)) & (self.periods[inside] == periods)

    def between(self, after: int, through: int) -> NDArray[np.bool_]:
        """Which rows are labelled and lie after one period and up to another."""
        return (self.periods > after) & (self.periods <= through) & ~np.isnan(self.labels)


@dataclass(frozen=True)
class Bucket:
    """All rows of a bucket's segments, sorted by segment and period."""

    table: pa.Table
    x: Floats
    labels: Floats
    periods: Ints

    def segments(self) -> Iterator[SegmentRows]:
        """The bucket's segments, one after the other."""
        start = 0
        for key, end in _runs(self.table[KEY]):
            rows = slice(start, end)
            yield SegmentRows(key, self.periods[rows], self.labels[rows], self.x[rows], start)
            start = end


def read_bucket(files: Sequence[str], recipe: Recipe, also: Sequence[str] = (), after: int | None = None) -> Bucket:
    """The rows of a bucket's feature files with the recipe's features as one matrix; `also` names other columns.

    With `after` just the rows of later periods.
    """
    import pyarrow.parquet as pq

    from resources.files import filesystem

    columns = list(dict.fromkeys([KEY, PERIOD, recipe.label, *recipe.features, *also]))
    parts = []
    for file in files:
        system, path = filesystem(file)
        parts.append(pq.ParquetFile(system.open_input_file(path)).read(columns=columns))
    table = pa.concat_tables(parts)
    if after is not None:
        table = table.filter(pc.greater(table[PERIOD], after))
    if len(parts) > 1:
        table = table.sort_by([(KEY, "ascending"), (PERIOD, "ascending")])
    return as_bucket(table, recipe)


def as_bucket(table: pa.Table, recipe: Recipe) -> Bucket:
    """Rows of a feature table, sorted by segment and period, with the recipe's features as one matrix."""
    x = np.empty((table.num_rows, len(recipe.features)))
    for position, (feature, categories) in enumerate(zip(recipe.features, _categories(recipe), strict=True)):
        x[:, position] = _numbers(table[feature], categories)
    periods = table[PERIOD].to_numpy().astype(np.int64)
    return Bucket(table, x, _numbers(table[recipe.label], None), periods)


def label_history(files: Sequence[str], recipe: Recipe) -> Iterator[SegmentRows]:
    """Periods and labels of a bucket's segments, without features."""
    if files:
        yield from read_bucket(files, recipe.without_inputs()).segments()


def categorical_positions(recipe: Recipe) -> list[int]:
    """Columns of the matrix that hold codes of categories."""
    return [position for position, categories in enumerate(_categories(recipe)) if categories is not None]


def _categories(recipe: Recipe) -> list[pa.Array | None]:
    text = set(recipe.text_features)
    known = {name: recipe.categories.get(name.rsplit("@", 1)[0], recipe.categories.get(name, [])) for name in text}
    return [pa.array(known[name], pa.string()) if name in text else None for name in recipe.features]


def _numbers(column: pa.ChunkedArray, categories: pa.Array | None) -> Floats:
    if categories is not None:
        column = pc.index_in(column.cast(pa.string()), categories, skip_nulls=True)
    return column.cast(pa.float64()).to_numpy(zero_copy_only=False) if column.null_count == 0 else _with_nan(column)


def _with_nan(column: pa.ChunkedArray) -> Floats:
    return pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy()


def _runs(keys: pa.ChunkedArray) -> Iterator[tuple[str, int]]:
    if not len(keys):
        return
    encoded = pc.run_end_encode(keys.combine_chunks())
    yield from zip(encoded.values.to_pylist(), encoded.run_ends.to_pylist(), strict=True)
