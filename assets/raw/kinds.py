"""What the columns of a raw table are: numbers, truth, text, times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple, cast

from assets.raw.cells import boolean_in, filled, is_number, says_number
from assets.raw.parse import Kind, text_time, time_pattern
from assets.raw.rules import meant_type
from assets.raw.source import CORRUPT, FILE, LINEAGE, ROW
from resources.problems import InputError, Problem
from resources.settings import Settings
from resources.spark import spark_errors

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from resources.spark import Spark

UNKEYED = ("array", "map", "struct", "variant", "binary")
TIMES = ("timestamp", "timestamp_ntz", "date")
ROWS_TO_TELL, CELLS_TO_TELL, CLOSE = 200_000, 1_000, 0.1
NEARLY_ALL = 0.9  # of a feature's cells say true or false, or Y, N and U would be truth, and each U refused


def column_kinds(raw: DataFrame, settings: Settings, rows: int = 0) -> dict[str, Kind]:
    """What each feature and the label is: by the column's type, or, of text, by what most cells parse as.

    Truth is what nearly all cells of a feature, or most of the label, say.
    Without time and without a list of features, every other column of a usable type is one. Of very many `rows` some
    are looked at first, and the others only where these do not tell.

    Raises:
        InputError: a label or time that never parses, no features, or a column of a type that cannot be used.
    """
    types = dict(raw.dtypes)
    used = columns_used(types, settings)
    text = [column for column in [*settings.time_columns, *used] if types[column] == "string"]
    counts = _counts(raw, text, settings, rows) if text else {}
    refuse_unparsable(counts, settings)
    return kinds_of(types, counts, settings)


def columns_used(types: Mapping[str, str], settings: Settings) -> list[str]:
    """The label and the features, of columns whose types (Spark's) are given by name.

    Raises:
        InputError: no features, or a column of a type that cannot be used.
    """
    if problems := _unusable_types(types, settings):
        raise InputError(problems)
    return list(dict.fromkeys([settings.label, *_features(types, settings)]))


def refuse_unparsable(counts: Mapping[str, Told], settings: Settings) -> None:
    """Looks at what cells of text say.

    Raises:
        InputError: a label or time that never parses.
    """
    must_parse = [*settings.time_columns, settings.label]
    if problems := [_never_parses(column, settings) for column in must_parse if _never(column, counts, settings)]:
        raise InputError(problems)


def kinds_of(types: Mapping[str, str], counts: Mapping[str, Told], settings: Settings) -> dict[str, Kind]:
    """What each feature and the label is (see `column_kinds`), from what the cells of text columns say."""
    kinds: dict[str, Kind] = {}
    for column in columns_used(types, settings):
        declared = settings.contract.columns.get(column)
        meant = meant_type(declared) if declared else None
        if meant in ("number", "boolean", "text"):
            kinds[column] = cast("Kind", meant)
        elif column in counts:
            kinds[column] = _kind_of_text(counts[column], 0.5 if column == settings.label else NEARLY_ALL)
        else:
            kinds[column] = "boolean" if types[column] == "boolean" else "number"
    return {**kinds, settings.label: "boolean" if kinds[settings.label] == "boolean" else "number"}


def _features(types: Mapping[str, str], settings: Settings) -> list[str]:
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


def _unusable_types(types: Mapping[str, str], settings: Settings) -> list[Problem]:
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


class Told(NamedTuple):
    """How many cells of a text column are filled, and parse as each kind."""

    filled: int
    number: int
    boolean: int
    time: int


def _counts(raw: DataFrame, text: list[str], settings: Settings, rows: int) -> dict[str, Told]:
    if (one_in := rows // ROWS_TO_TELL) > 1:
        sample = raw.where(f"pmod(xxhash64({FILE}, {ROW}), {one_in}) = 0")
        counts = _parse_counts(sample, text, settings)
        if all(_tells(column, found, settings) for column, found in counts.items()):
            return counts
    return _parse_counts(raw, text, settings)


def _tells(column: str, found: Told, settings: Settings) -> bool:
    """Whether what a sample holds of a column leaves no doubt about all of it."""
    if found.filled < CELLS_TO_TELL:
        return False
    if column == settings.time:
        return found.time > 0
    number, boolean = found.number / found.filled, found.boolean / found.filled
    if column == settings.label:
        return abs(number - 0.5) > CLOSE and abs(boolean - 0.5) > CLOSE and number + boolean > 0
    return number > 0.5 + CLOSE or (number < 0.5 - CLOSE and (boolean == 1 or boolean < NEARLY_ALL - CLOSE))


def _parse_counts(raw: DataFrame, text: list[str], settings: Settings) -> dict[str, Told]:
    expressions = []
    for position, column in enumerate(text):
        cell = filled(column)
        if column == settings.time:
            counts = [f"count({cell})", "0L", "0L", f"count({text_time(column, settings)})"]
        else:
            counts = [f"count({cell})", f"count_if({says_number(cell)})", f"count({boolean_in(cell)})", "0L"]
        expressions.append(f"array({', '.join(counts)}) as column_{position}")
    try:
        row = raw.where(f"{CORRUPT} is null").selectExpr(*expressions).first()
    except spark_errors():
        refuse_pattern(settings)
        raise
    assert row is not None, "an aggregate without groups gives one row"
    return {column: Told(*row[position]) for position, column in enumerate(text)}


def refuse_pattern(settings: Settings) -> None:
    """Blames a failure on the pattern of times, if `fleet.yaml` has one.

    Raises:
        InputError: it has.
    """
    if pattern := time_pattern(settings):
        where, what = "fleet.yaml source.options.timestampFormat", f"{pattern!r} is not a pattern that Spark reads"
        raise InputError([Problem(where, what, "write one such as dd.MM.yyyy HH:mm")]) from None


def times_told(spark: Spark, texts: Iterable[str], settings: Settings) -> dict[str, int | None]:
    """What Spark takes some texts for: microseconds since 1970 (UTC), None where they are no times.

    Raises:
        InputError: the pattern of times is none.
    """
    asked = spark.session().createDataFrame([(text,) for text in sorted(texts)], "cell string")
    moment = f"unix_micros(cast(cast({text_time('cell', settings)} as timestamp_ntz) as timestamp))"
    try:
        return dict(asked.selectExpr("cell", f"{moment} as micros").collect())
    except spark_errors():
        refuse_pattern(settings)
        raise


def _kind_of_text(counts: Told, share_of_truth: float) -> Kind:
    if counts.number * 2 > counts.filled:
        return "number"
    return "boolean" if counts.boolean > share_of_truth * counts.filled else "text"


def _never(column: str, counts: Mapping[str, Told], settings: Settings) -> bool:
    if column not in counts or not counts[column].filled:
        return False
    found = counts[column]
    return not (found.time if column == settings.time else max(found.number, found.boolean))


def _never_parses(column: str, settings: Settings) -> Problem:
    if column == settings.time:
        remedy = "write times as 2024-05-31 or 2024-05-31 13:00:00, or set source.options.timestampFormat"
        return Problem("fleet.yaml time", f"no cell of {column!r} parses as a time", remedy)
    return Problem("fleet.yaml label", f"no cell of {column!r} parses as a number", "name the column to predict")
