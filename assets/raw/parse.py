"""Cells to values: each row's key, time, label and features typed, with the reasons why a row is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from assets.partitions import key_expression
from assets.raw.calendar import FIRST_SENSIBLE, LAST_SENSIBLE, Calendar, nanoseconds
from assets.raw.cells import boolean_in, filled, number_in
from assets.raw.rules import AS_READ, broken, meant_type, rules_of, typed_view
from assets.raw.source import ARRIVED, CORRUPT, FILE, LINEAGE, ROW
from resources.settings import Settings
from resources.spark import quoted

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

Kind = Literal["number", "boolean", "text"]
KEY, TIME, PERIOD, REASONS, SOURCE = "__segment", "__time", "__period", "__reasons", "__source"
REFUSING, NOTED = "__refusing", "__noted"
VALUE, MOMENT = "__value_", "__moment"


def time_pattern(settings: Settings) -> str:
    """How text cells write times, if `fleet.yaml` says so."""
    options = settings.source.options
    return str(options.get("timestampFormat") or options.get("dateFormat") or "")


def text_time(column: str, settings: Settings) -> str:
    """Spark SQL for the time in a text cell; null where it is none."""
    if given := time_pattern(settings):
        pattern = given.replace("\\", "\\\\").replace("'", "\\'")
        return f"try_to_timestamp({filled(column)}, '{pattern}')"
    return f"try_cast({filled(column)} as timestamp)"


def parse_rows(raw: DataFrame, settings: Settings, kinds: dict[str, Kind]) -> DataFrame:
    """Raw rows typed, none lost.

    Gives: the segment columns as they came; `__segment` (partition key), `__time` (UTC, without zone; of a table with
    time), the label and features (numbers as double with NaN as null, text as text), `__reasons` (array of text, empty
    for a good row), `__noted` (rules that the row breaks and may), `__source` (the whole raw row), `__arrived`,
    `__file`, `__row`.
    """
    from pyspark.sql import functions as F

    types = dict(raw.dtypes)
    ruled = _with_broken_rules(raw, settings, kinds)
    # in columns of their own, which Spark computes once, however often reasons look at them
    value_of = {column: f"{VALUE}{number}" for number, column in enumerate(kinds)}
    parsed = {value_of[column]: _value(column, kind, types[column]) for column, kind in kinds.items()}
    if settings.time:
        parsed[MOMENT] = _time(settings.time, settings, types)
    typed = ruled.withColumns({name: F.expr(value) for name, value in parsed.items()})
    whole = F.struct(*[F.col(quoted(column)) for column in raw.columns if column not in LINEAGE])
    arrived = F.col(ARRIVED) if ARRIVED in types else F.lit(1)
    return typed.select(
        whole.alias(SOURCE),
        arrived.alias(ARRIVED),
        FILE,
        ROW,
        *[F.col(quoted(column)) for column in settings.segment],
        F.expr(key_expression(settings.segment)).alias(KEY),
        *[F.col(MOMENT).alias(TIME) for _ in settings.time_columns],
        *[F.expr(f"nanvl({value}, null)" if kinds[c] != "text" else value).alias(c) for c, value in value_of.items()],
        F.expr(f"concat({_named(_reasons(settings, kinds, types, value_of))}, {REFUSING})").alias(REASONS),
        NOTED,
    )


def _with_broken_rules(raw: DataFrame, settings: Settings, kinds: dict[str, Kind]) -> DataFrame:
    """Raw rows with the names of the contract's rules that each breaks: those that refuse it, and the others."""
    rules = rules_of(settings)
    if not rules:
        none = broken([], [])
        return raw.withColumns({REFUSING: none, NOTED: none})
    view = rule_view(raw, settings, kinds)
    broken_by = {REFUSING: broken(rules, ["drop"]), NOTED: broken(rules, ["warn", "fail"])}
    return view.select(f"{AS_READ}.*", *[names.alias(column) for column, names in broken_by.items()])


def rule_view(raw: DataFrame, settings: Settings, kinds: dict[str, Kind]) -> DataFrame:
    """Raw rows as the contract's rules see them."""
    types = dict(raw.dtypes)
    times = [name for name, column in settings.contract.columns.items() if meant_type(column) == "time"]
    text = [column for column in times if types.get(column) == "string"]
    return typed_view(raw, settings, kinds, {c: _time(c, settings, types) for c in {*settings.time_columns, *text}})


def _value(column: str, kind: Kind, type_: str) -> str:
    name = quoted(column)
    if kind == "text":
        return f"nullif(cast({name} as string), '')"
    if type_ == "string":
        return boolean_in(filled(column)) if kind == "boolean" else number_in(filled(column))
    return f"cast({name} as double)"


def _time(column: str, settings: Settings, types: dict[str, str]) -> str:
    moment = text_time(column, settings) if types[column] == "string" else quoted(column)
    return f"cast({moment} as timestamp_ntz)"


def _named(reasons: list[str]) -> str:
    """SQL of an array of those reasons that are not empty; `array_compact` would not be compiled, nor all inside it."""
    return f"array_remove(array({', '.join(reasons)}), '')"


def _reasons(settings: Settings, kinds: dict[str, Kind], types: dict[str, str], value_of: dict[str, str]) -> list[str]:
    found = [f"if({CORRUPT} is not null, 'malformed', '')"]
    ruled = {name for name, column in settings.contract.columns.items() if meant_type(column)} - {settings.label}

    def when(condition: str, reason: str) -> None:
        escaped = reason.replace("\\", "\\\\").replace("'", "\\'")
        found.append(f"if({CORRUPT} is null and ({condition}), '{escaped}', '')")

    for column in settings.segment:
        name = quoted(column)
        nan = f" or isnan({name})" if types[column] in ("float", "double") else ""
        when(f"{name} is null{nan}", f"null_segment:{column}")
    for column in settings.time_columns:
        blank = f"{filled(column) if types[column] == 'string' else quoted(column)} is null"
        when(blank, f"null_time:{column}")
        when(f"not ({blank}) and {MOMENT} is null", f"unparsable:{column}")
        when(
            f"{MOMENT} < timestamp_ntz'{FIRST_SENSIBLE}' or {MOMENT} >= timestamp_ntz'{LAST_SENSIBLE}'",
            f"time_out_of_range:{column}",
        )
    for column, kind in kinds.items():
        if kind == "text":
            continue
        value = value_of[column]
        if types[column] == "string" and column not in ruled:
            when(f"{filled(column)} is not null and {value} is null", f"unparsable:{column}")
        when(f"abs({value}) = double('infinity')", f"infinite:{column}")
    return found


def with_period(parsed: DataFrame, calendar: Calendar, first: pd.Timestamp, last: pd.Timestamp) -> DataFrame:
    """Parsed rows with `__period`, the number of their calendar period; null where a time is off the grid."""
    from pyspark.sql import functions as F

    micros = f"unix_micros(cast({TIME} as timestamp))"
    if calendar.unit:
        unit, since = calendar.unit // 1000, f"({micros} - {calendar.phase // 1000})"
        number = f"try_cast(({since} - pmod({since}, {unit}L)) div {unit}L as int)"
        return parsed.withColumn(PERIOD, F.expr(f"if(pmod({since}, {unit}L) = 0, {number}, null)"))
    lookup = F.broadcast(_numbered(parsed.sparkSession, calendar, first, last))
    return parsed.withColumn("__micros", F.expr(micros)).join(lookup, "__micros", "left").drop("__micros")


def _numbered(session: SparkSession, calendar: Calendar, first: pd.Timestamp, last: pd.Timestamp) -> DataFrame:
    import pyarrow as pa

    times = calendar.times(first, last)
    numbers = pa.array(calendar.periods(times), pa.int32())
    return session.createDataFrame(pa.table({"__micros": nanoseconds(times) // 1000, PERIOD: numbers}))
