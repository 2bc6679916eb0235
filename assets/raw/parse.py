"""Cells to values: each row's key, time, label and features typed, with the reasons why a row is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from assets.partitions import key_expression
from assets.raw.calendar import FIRST_SENSIBLE, LAST_SENSIBLE, Calendar, nanoseconds
from assets.raw.cells import boolean_in, filled, is_number, number_in
from assets.raw.rules import AS_READ, broken, meant_type, rules_of, typed_view
from assets.raw.source import ARRIVED, CORRUPT, FILE, LINEAGE, ROW
from resources.problems import InputError, Problem
from resources.settings import Settings
from resources.spark import quoted, spark_errors

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession

Kind = Literal["number", "boolean", "text"]
KEY, TIME, PERIOD, REASONS, SOURCE = "__segment", "__time", "__period", "__reasons", "__source"
REFUSING, NOTED = "__refusing", "__noted"
VALUE, MOMENT = "__value_", "__moment"
UNKEYED = ("array", "map", "struct", "variant", "binary")
TIMES = ("timestamp", "timestamp_ntz", "date")


def column_kinds(raw: DataFrame, settings: Settings) -> dict[str, Kind]:
    """What each feature and the label is: by the column's type, or, of text, by what most cells parse as.

    Without time and without a list of features, every other column of a usable type is one.

    Raises:
        InputError: a label or time that never parses, no features, or a column of a type that cannot be used.
    """
    types = dict(raw.dtypes)
    if problems := _unusable_types(types, settings):
        raise InputError(problems)
    used = [settings.label, *_features(types, settings)]
    text = [column for column in [*settings.time_columns, *used] if types[column] == "string"]
    counts = _parse_counts(raw, text, settings) if text else {}
    must_parse = [*settings.time_columns, settings.label]
    if problems := [_never_parses(column, settings) for column in must_parse if _never(column, counts, settings)]:
        raise InputError(problems)
    kinds: dict[str, Kind] = {}
    for column in used:
        declared = settings.contract.columns.get(column)
        meant = meant_type(declared) if declared else None
        if meant in ("number", "boolean", "text"):
            kinds[column] = cast("Kind", meant)
        elif column in counts:
            kinds[column] = _kind_of_text(counts[column])
        else:
            kinds[column] = "boolean" if types[column] == "boolean" else "number"
    return {**kinds, settings.label: "boolean" if kinds[settings.label] == "boolean" else "number"}


def _features(types: dict[str, str], settings: Settings) -> list[str]:
    given = [*settings.features.known_ahead, *settings.features.past_only]
    if given or settings.time:
        return given
    taken = {*LINEAGE, *settings.columns}
    others = [column for column, type_ in types.items() if column not in taken and _usable(type_)]
    if not others:
        what = "the table has no column that a model could look at: all are segment or label, or no plain values"
        raise InputError([Problem("fleet.yaml features.known_ahead", what, "bring columns of numbers or text")])
    return others


def _usable(type_: str) -> bool:
    return is_number(type_) or type_ in ("boolean", "string")


def _unusable_types(types: dict[str, str], settings: Settings) -> list[Problem]:
    problems = []

    def refuse(key: str, column: str, wanted: str, remedy: str) -> None:
        problems.append(Problem(f"fleet.yaml {key}", f"column {column!r} is {types[column]}, not {wanted}", remedy))

    for column in settings.time_columns:
        if types[column] not in (*TIMES, "string"):
            refuse("time", column, "a time", "name a column of dates, times or text such as 2024-05-31")
    for key, columns in [
        ("label", [settings.label]),
        ("features.known_ahead", settings.features.known_ahead),
        ("features.past_only", settings.features.past_only),
    ]:
        for column in columns:
            if not _usable(types[column]):
                refuse(key, column, "a number, true/false or text", "name another column")
    for column in settings.segment:
        if types[column].startswith(UNKEYED):
            refuse("segment", column, "a plain value", "name a column of text, numbers or dates")
    return problems


class _Parsed(NamedTuple):
    """How many cells of a text column are filled, and parse as each kind."""

    filled: int
    number: int
    boolean: int
    time: int


def _parse_counts(raw: DataFrame, text: list[str], settings: Settings) -> dict[str, _Parsed]:

    expressions = []
    for position, column in enumerate(text):
        cell = filled(column)
        time = f"count({_text_time(column, settings)})" if column == settings.time else "0L"
        counts = [f"count({cell})", f"count({number_in(cell)})", f"count({boolean_in(cell)})", time]
        expressions.append(f"array({', '.join(counts)}) as column_{position}")
    try:
        row = raw.where(f"{CORRUPT} is null").selectExpr(*expressions).first()
    except spark_errors():
        if not (pattern := _time_pattern(settings)):
            raise
        where, what = (
            "fleet.yaml source.options.timestampFormat",
            f"{pattern!r} is not a pattern that Spark reads",
        )
        raise InputError([Problem(where, what, "write one such as dd.MM.yyyy HH:mm")]) from None
    assert row is not None, "an aggregate without groups gives one row"
    return {column: _Parsed(*row[position]) for position, column in enumerate(text)}


def _kind_of_text(counts: _Parsed) -> Kind:
    if counts.number * 2 > counts.filled:
        return "number"
    return "boolean" if counts.boolean * 2 > counts.filled else "text"


def _never(column: str, counts: dict[str, _Parsed], settings: Settings) -> bool:
    if column not in counts or not counts[column].filled:
        return False
    found = counts[column]
    return not (found.time if column == settings.time else max(found.number, found.boolean))


def _never_parses(column: str, settings: Settings) -> Problem:
    if column == settings.time:
        remedy = "write times as 2024-05-31 or 2024-05-31 13:00:00, or set source.options.timestampFormat"
        return Problem("fleet.yaml time", f"no cell of {column!r} parses as a time", remedy)
    return Problem("fleet.yaml label", f"no cell of {column!r} parses as a number", "name the column to predict")


def _time_pattern(settings: Settings) -> str:
    options = settings.source.options
    return str(options.get("timestampFormat") or options.get("dateFormat") or "")


def _text_time(column: str, settings: Settings) -> str:
    if given := _time_pattern(settings):
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
    moment = _text_time(column, settings) if types[column] == "string" else quoted(column)
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
