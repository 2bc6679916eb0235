"""Which rows of a plain table break which rules of the contract: Spark looks at cells that workers have typed.

A rule is SQL over one row, and Spark's to judge. What it looks at workers have read and typed already (see `typed`), so
that Spark parses no cell, however many rules look at it, and is given only the columns that some rule looks at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assets.raw.arrow_cells import Places, Truths, booleans_in, decoded, numbers_in, texts_of
from assets.raw.parse import Kind
from assets.raw.rules import AS_READ, Rule, meant_type, rules_of
from assets.raw.snapshot import ROWS_AT_ONCE, RawRows, Share, batches_of_share
from assets.raw.source import CORRUPT, PART
from assets.raw.typed import Reading, as_text, moments_of
from resources.exchange import Exchange, in_portions
from resources.settings import Settings
from resources.spark import light_collections

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from resources.spark import Spark

SHARE, PLACE, BROKEN = "__share", "__place", "__broken"


class BrokenRules(NamedTuple):
    """Where workers find which rows of a share break which rules: the file of each share in which any does."""

    files: dict[int, str]
    given: Exchange
    rules: list[tuple[str, bool]]


def rows_of(broken: BrokenRules | None, share: Share) -> RowsOfShare:
    """What is said of a share's rows."""
    file = broken.files.get(share.number) if broken else None
    rows = broken.given.rows([file], 0) if broken and file else None
    if broken is None or rows is None:
        return RowsOfShare([])
    lists = rows[BROKEN].combine_chunks()
    many = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    return RowsOfShare(broken.rules, np.repeat(rows[PLACE].to_numpy(), many), lists.flatten().to_numpy())


@dataclass
class RowsOfShare:
    """Which rows of a share break which rules; a row and a rule for each time that one does."""

    rules: list[tuple[str, bool]]
    places: Places = field(default_factory=lambda: np.zeros(0, np.int64))
    broken: Places = field(default_factory=lambda: np.zeros(0, np.int64))

    def among(self, first: int, rows: int) -> tuple[list[tuple[str, Truths]], list[tuple[str, Truths]]]:
        """Of so many rows from one on: the rules that refuse, and those that only count, each with who breaks it."""
        start, end = np.searchsorted(self.places, [first, first + rows])
        places, broken = self.places[start:end] - first, self.broken[start:end]
        refusing, noted = list[tuple[str, Truths]](), list[tuple[str, Truths]]()
        for number in np.unique(broken):
            name, refuses = self.rules[number]
            mask = np.zeros(rows, bool)
            mask[places[broken == number]] = True
            (refusing if refuses else noted).append((name, mask))
        return refusing, noted


def broken_rules(
    spark: Spark, raw: RawRows, settings: Settings, reading: Reading, given: Exchange
) -> BrokenRules | None:
    """Lets Spark look at all rows of a plain table, in one pass; None without rules."""
    rules = rules_of(settings)
    if not rules:
        return None
    shares, own = raw.shares(), Exchange(given.folder, 1)
    view = _View.of(spark, raw, settings, reading.kinds, rules)
    said = view.frame(spark, raw, shares, reading).select(SHARE, PLACE, _numbers_of(rules).alias(BROKEN))

    def handed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        light_collections()
        share = None
        with own.writer() as writer:
            for rows in in_portions(batches, ROWS_AT_ONCE):
                share = rows[SHARE][0].as_py()  # of one share, which is a Spark partition
                writer.write(rows.select([PLACE, BROKEN]), np.zeros(rows.num_rows, np.int64))
        if share is not None:
            yield pa.RecordBatch.from_pylist([{"share": share, "file": writer.file}])

    found = said.where(f"size({BROKEN}) > 0").mapInArrow(handed, "share long, file string").toArrow()
    files = dict(zip(found["share"].to_pylist(), found["file"].to_pylist(), strict=True))
    return BrokenRules(files, own, [(rule.name, rule.action == "drop") for rule in rules])


def _numbers_of(rules: Sequence[Rule]) -> Column:
    """The numbers of the rules that a row breaks, in their order."""
    from pyspark.sql import functions as F

    numbers = [F.when(~F.expr(rule.holds), F.lit(number)).otherwise(-1) for number, rule in enumerate(rules)]
    return F.array_remove(F.array(*numbers), -1)


class _View(NamedTuple):
    """The columns that rules look at: typed, and as they were read."""

    meant: dict[str, str | None]
    typed: list[str]
    as_read: list[str]

    @classmethod
    def of(
        cls, spark: Spark, raw: RawRows, settings: Settings, kinds: Mapping[str, Kind], rules: Sequence[Rule]
    ) -> _View:
        held = [name for name in raw.schema.names if name != PART]
        meant = meant_by(settings, kinds)
        everything = cls({name: meant.get(name) for name in held}, held, held)
        empty = spark.session().createDataFrame([], everything.schema(raw.schema))
        seen = {name for rule in rules for name in _references(empty, rule.holds)}
        # a rule of a column looks at that column alone; who looks at others as they were read has to be given all
        as_read = [name for name in held if name in settings.contract.columns]
        if any(AS_READ in _references(empty, each.predicate) for each in settings.contract.expectations):
            as_read = held
        return cls(everything.meant, [name for name in held if name in seen], as_read if AS_READ in seen else [])

    def schema(self, raw: pa.Schema) -> Any:
        from pyspark.sql.pandas.types import from_arrow_schema

        place = [pa.field(SHARE, pa.int32()), pa.field(PLACE, pa.int64())]
        as_read = [pa.field(AS_READ, pa.struct([raw.field(name) for name in self.as_read]))] if self.as_read else []
        typed = [pa.field(name, _type(raw.field(name).type, self.meant[name])) for name in self.typed]
        return from_arrow_schema(pa.schema([*place, *as_read, *typed]))

    def frame(self, spark: Spark, raw: RawRows, shares: list[Share], reading: Reading) -> DataFrame:
        """The view of all rows that could be read, made by workers."""
        names = self.schema(raw.schema).names
        needed = list(dict.fromkeys([*self.typed, *self.as_read, CORRUPT]))

        def seen(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            light_collections()
            for batch in batches:
                for number in batch.column(0).to_pylist():
                    first = 0
                    for rows in batches_of_share(shares[number], raw.schema, needed):
                        columns = self._columns(rows, shares[number], first, reading)
                        first += rows.num_rows
                        yield pa.RecordBatch.from_arrays(columns, names).filter(rows[CORRUPT].is_null())

        return spark.session().range(0, len(shares), 1, len(shares)).mapInArrow(seen, self.schema(raw.schema))

    def _columns(self, rows: pa.RecordBatch, share: Share, first: int, reading: Reading) -> list[pa.Array]:
        count = rows.num_rows
        place = [pa.repeat(pa.scalar(share.number, pa.int32()), count), pa.array(np.arange(first, first + count))]
        as_read = [decoded(rows[name]) for name in self.as_read]
        whole = [pa.StructArray.from_arrays(as_read, names=self.as_read)] if as_read else []
        return [*place, *whole, *(_seen(rows[name], self.meant[name], reading) for name in self.typed)]


def meant_by(settings: Settings, kinds: Mapping[str, Kind]) -> dict[str, str]:
    """What columns are to rules, by what they are to models and what the contract declares."""
    declared = {name: type_ for name, column in settings.contract.columns.items() if (type_ := meant_type(column))}
    return {**kinds, **declared, **dict.fromkeys(settings.time_columns, "time")}


def _references(view: DataFrame, predicate: str) -> set[str]:
    """The columns that a predicate looks at."""
    found = view.where(predicate)._jdf.queryExecution().analyzed().expressions().head().references().iterator()
    names = set()
    while found.hasNext():
        names.add(found.next().name())
    return names


def can_be_seen(type_: pa.DataType, meant: str | None, is_time: bool) -> bool:
    """Whether workers type such a column as rules see it, without one of Spark's casts."""
    if pa.types.is_string(type_):
        return meant != "time" or is_time
    if meant in ("text", "boolean"):
        return pa.types.is_integer(type_) or pa.types.is_boolean(type_)
    return meant != "time" or pa.types.is_timestamp(type_) or pa.types.is_date32(type_)


def _type(type_: pa.DataType, meant: str | None) -> pa.DataType:
    """The type in which rules see a column; see `typed_view`."""
    text = pa.types.is_string(type_)
    if meant == "time":
        return pa.timestamp("us")
    if meant == "text":
        return pa.string()
    if meant == "boolean" and (text or pa.types.is_integer(type_)):
        return pa.bool_()
    return pa.float64() if meant == "number" and text else type_


def _seen(cells: pa.Array, meant: str | None, reading: Reading) -> pa.Array:
    text = pa.types.is_dictionary(cells.type) or pa.types.is_string(cells.type)
    if meant == "time":
        return moments_of(cells, reading)
    if meant == "text" or (text and meant is None):
        return as_text(cells)
    if text:
        texts = texts_of(cells)
        found = texts.spread(numbers_in(texts.texts) if meant == "number" else booleans_in(texts.texts))
        return pa.array(found if meant == "number" else found == 1, mask=np.isnan(found))
    if meant == "boolean" and pa.types.is_integer(cells.type):
        truth = pc.equal(cells, 1)
        return pc.if_else(pc.or_(truth, pc.equal(cells, 0)), truth, None)
    if pa.types.is_floating(cells.type):
        return pc.if_else(pc.is_nan(cells), None, cells)
    return cells
