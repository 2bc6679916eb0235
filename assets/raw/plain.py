"""Plain tables (see `typed`): which are, how their rows are read, and what Spark is asked of their odd times."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import pyarrow as pa

from assets.raw.broken import can_be_seen, meant_by
from assets.raw.kinds import columns_used, kinds_of, refuse_unparsable, times_told
from assets.raw.moments import Looked, first_told, look_at
from assets.raw.parse import Kind, rule_view, time_pattern
from assets.raw.rules import refuse_unusable, rules_of
from assets.raw.snapshot import RawRows
from assets.raw.typed import Reading
from resources.exchange import Exchange
from resources.lake import Lake
from resources.problems import InputError
from resources.settings import Settings
from resources.spark import spark_errors
from resources.spread import Say

if TYPE_CHECKING:
    from resources.spark import Spark

TIMES_FOLDER = "times"


def is_plain(schema: pa.Schema, settings: Settings) -> bool:
    """Whether workers can read rows of such columns themselves.

    Raises:
        InputError: a column is of a type that nobody can use.
    """
    contract, types = settings.contract, {field.name: field.type for field in schema}
    if not settings.time or any(set(contract.names_of(c)) & set(types) - {c} for c in contract.aliases):
        return False
    is_text, is_whole, time = pa.types.is_string, pa.types.is_integer, types[settings.time]
    plain = [is_text(time) or pa.types.is_timestamp(time) or pa.types.is_date32(time)]
    plain += [is_text(types[column]) or is_whole(types[column]) for column in settings.segment]
    used = columns_used(spark_types(schema), settings)
    plain += [is_text(types[column]) or _is_number(types[column]) for column in used]
    meant = meant_by(settings, {})
    plain += [can_be_seen(types[c], type_, c == settings.time) for c, type_ in meant.items() if c in types]
    return all(plain)


def _is_number(type_: pa.DataType) -> bool:
    is_float = pa.types.is_float32(type_) or pa.types.is_float64(type_)
    return is_float or pa.types.is_integer(type_) or pa.types.is_boolean(type_)


def spark_types(schema: pa.Schema) -> dict[str, str]:
    """The types of columns as Spark calls them, by name."""
    from pyspark.sql.pandas.types import from_arrow_schema

    return {field.name: field.dataType.simpleString() for field in from_arrow_schema(schema)}


def look_at_plain(
    spark: Spark, raw: RawRows, settings: Settings, given: Exchange, say: Say | None = None
) -> tuple[Looked, Reading] | None:
    """The moments of a plain table's rows, and how they were read; None if too many times are odd ones.

    What columns are is guessed from the first rows, and looked at anew if all of them say otherwise; so are the rows
    if texts of times are among them that Spark has to be asked about. A rule that cannot be used, or fails on a row, is
    the user's mistake only once it is certain what its columns are.

    Raises:
        InputError: a label or time that never parses, text that is none, or a rule of the contract that is none.
    """
    types, told = spark_types(raw.schema), dict[str, int | None]()
    reading = Reading.of(settings, dict.fromkeys(columns_used(types, settings), "text"), {})
    mistakes: tuple[type[Exception], ...] = (InputError, *spark_errors())
    kinds, certain, with_rules = kinds_of(types, first_told(raw, reading), settings), False, True
    while True:
        reading = Reading.of(settings, kinds, told)
        try:
            if with_rules and (rules := rules_of(settings)):
                refuse_unusable(rule_view(raw.frame(spark, settings), settings, kinds), rules)
            looked = look_at(spark, raw, settings, reading, given, with_rules, say)
        except mistakes:
            if certain or not with_rules:
                raise
            with_rules = False
            continue
        if looked.odd is None:
            return None
        kinds = kinds_of(types, looked.told, settings)
        if kinds == reading.kinds and not looked.odd:
            refuse_unparsable(looked.told, settings)
            if with_rules:
                return looked, reading
            certain = with_rules = True
        told |= times_told(spark, looked.odd, settings)


def keep_times(lake: Lake, digest: str, settings: Settings, reading: Reading) -> None:
    """Keeps what odd texts of times say in a snapshot, so that its rows can be read again."""
    lake.write_file(times_file(digest, settings), json.dumps(dict(reading.times)).encode())


def plain_reading(lake: Lake, raw: RawRows, digest: str, settings: Settings, kinds: dict[str, Kind]) -> Reading | None:
    """How workers read the rows of a snapshot that was looked at before, None if Spark has to."""
    known = lake.read_file(times_file(digest, settings)) if settings.time else None
    if known is None or not is_plain(raw.schema, settings):
        return None
    return Reading.of(settings, kinds, json.loads(known))


def times_file(digest: str, settings: Settings) -> str:
    """Where the lake keeps what odd texts of times say in a snapshot."""
    text = json.dumps([digest, settings.time, time_pattern(settings)])
    return f"{TIMES_FOLDER}/{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
