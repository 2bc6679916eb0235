"""A first `fleet.yaml` for a table that nobody has described yet: likely roles, and a contract of what was seen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from assets.raw.calendar import FIRST_SENSIBLE, LAST_SENSIBLE, MOST_PERIODS, infer_calendar
from assets.raw.column_facts import ColumnFacts, column_facts, has_facts, moment_in
from assets.raw.fetch import within_reach
from assets.raw.layout import layouts_of, likely_separator
from assets.raw.likely_roles import Key, likely_key, likely_label, likely_time
from assets.raw.read import read_source, unreadable
from assets.raw.source import CORRUPT, LINEAGE, SourceFiles, find_files
from assets.raw.text_files import refuse_unreadable_text
from resources.files import filesystem
from resources.location import is_local
from resources.problems import InputError, Problem
from resources.settings import Settings, Source, name_from
from resources.spark import spark_errors

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

FEWEST_TIMES = 3
LARGEST_EXACT = 2**53
ONE_LINE = 1 << 30
INTRODUCTION = """\
# Drafted from {rows:,} rows: look at every line, mend what is wrong, then run `fleet validate`.

# Name of the fleet: letters, digits and underscores.
name: {name}
source: {source}
"""
RULES = """\
contract:
  # What was seen, as rules: widen ranges and lists to what may come. Rows that break one are only noted (action: warn)
  # until you write drop (to quarantine) or fail; rows without segment or time are refused in any case.
  columns:
"""


@dataclass(frozen=True)
class Draft:
    """What is written: where the table is, the likely roles of its columns, and what each holds.

    `left_out` are columns that a fleet cannot use, each with the reason.
    """

    name: str
    path: str
    format: str | None
    options: dict[str, Any]
    rows: int
    key: Key
    time: str | None
    frequency: str | None
    label: str
    columns: tuple[ColumnFacts, ...]
    left_out: dict[str, str]


def draft_of(session: SparkSession, path: str) -> Draft:
    """The draft for a table: a file, folder, glob or URI of Parquet, CSV, JSON lines or Delta; `path` is absolute.

    Raises:
        InputError: no table there, one that cannot be read, has no rows, or no column that could be label or segment.
    """
    form = "delta" if _is_delta(path) else None
    # roles are what is looked for: reading asks for no column by name
    source: dict[str, Any] = {"path": path, **({"format": form} if form else {})}
    settings = Settings.model_validate({"name": _name(path), "source": source, "segment": "?", "label": "?"})
    with within_reach(session, find_files(settings)) as files:
        refuse_unreadable_text(files, settings)
        if (separator := likely_separator(files)) is not None:
            source["options"] = {"sep": separator}
            settings = settings.model_copy(update={"source": Source.model_validate(source)})
        try:
            table = read_source(session, files, settings, needed=[]).where(f"{CORRUPT} is null")
            return _drafted(table, settings, _left_out(table, files, settings))
        except spark_errors() as error:
            raise unreadable(settings, error) from None


def _drafted(table: DataFrame, settings: Settings, left_out: dict[str, str]) -> Draft:
    usable = [column for column in table.columns if column not in (*LINEAGE, *left_out)]
    rows, columns = column_facts(table, usable)
    if not rows:
        raise InputError([Problem(settings.source.path, "holds no rows", "give a table with rows")])
    time, label = likely_time(columns, rows), likely_label(columns, rows)
    others = [each for each in columns if each not in (time, label)]
    return Draft(
        name=settings.name,
        path=settings.source.path,
        format=settings.source.format,
        options=settings.source.options,
        rows=rows,
        key=likely_key(table, others, rows, time),
        time=time.name if time else None,
        frequency=_frequency(table, time) if time else None,
        label=label.name,
        columns=tuple(columns),
        left_out=left_out,
    )


def _is_delta(path: str) -> bool:
    import pyarrow.fs as pafs

    try:
        system, root = filesystem(path)
        return system.get_file_info(f"{root.rstrip('/')}/_delta_log").type == pafs.FileType.Directory
    except OSError:
        return False  # what is wrong with the path is told when its files are listed


def _name(path: str) -> str:
    """The fleet's name, after the last part of a path that is no pattern."""
    parts = [part for part in path.split("/") if part and not re.search(r"[*?\[]", part)]
    return name_from(re.sub(r"(\.\w+)+$", "", parts[-1]) if parts else "")


def _left_out(table: DataFrame, files: SourceFiles, settings: Settings) -> dict[str, str]:
    layouts = layouts_of(files, settings)
    partly = [c for c in table.columns if any(c not in layout.names for layout in layouts) and c not in LINEAGE]
    unusable = {c: f"is of type {type_}" for c, type_ in table.dtypes if not has_facts(type_)}
    return dict.fromkeys(partly, "is not in every file") | unusable


def _frequency(table: DataFrame, time: ColumnFacts) -> str | None:
    sensible = f"moment >= timestamp_ntz'{FIRST_SENSIBLE}' and moment < timestamp_ntz'{LAST_SENSIBLE}'"
    moments = table.selectExpr(f"{moment_in(time.name, time.stored)} as moment").where(sensible)
    found = moments.groupBy("moment").count().limit(MOST_PERIODS).toPandas().sort_values("moment")
    if not FEWEST_TIMES <= len(found) < MOST_PERIODS:
        return None
    times = pd.DatetimeIndex(found["moment"]).as_unit("ns")
    calendar = infer_calendar(times, found["count"].to_numpy(np.int64))
    return calendar.frequency if calendar else None


def as_yaml(draft: Draft, folder: Path) -> str:
    """The draft as the text of a `fleet.yaml` that is to lie in a folder: paths into it are written relative to it."""
    path = draft.path
    if is_local(path) and Path(path).is_relative_to(folder.resolve()):
        path = str(Path(path).relative_to(folder.resolve()))
    source: dict[str, Any] = {"path": path} | ({"format": draft.format} if draft.format else {})
    source |= {"options": draft.options} if draft.options else {}
    text = INTRODUCTION.format(rows=draft.rows, name=_scalar(draft.name), source=_mapping(source))
    return text + "\n".join([*_roles(draft), ""]) + RULES + "\n".join([*_columns(draft), ""])


def _roles(draft: Draft) -> Iterator[str]:
    told = "" if draft.key.apart is None else f" With the time they tell {_percent(draft.key.apart)} of the rows apart."
    yield f"# Column or columns whose values make a segment: each combination gets a model of its own.{told}"
    yield f"segment: {_sequence(draft.key.columns)}"
    if draft.time is None:
        yield "# No column holds times; if one does, name it (time: date) and say how it is written, as here:"
        yield "# source: {path: ..., options: {timestampFormat: dd.MM.yyyy}}"
    else:
        yield "# Column with the date or time of a row."
        yield f"time: {_scalar(draft.time)}"
        if draft.frequency:
            yield "# Step between two rows of a segment, as pandas writes it (h, D, B, W-FRI, MS ...)."
            yield f"frequency: {draft.frequency}"
        else:
            yield "# The times follow no frequency: round them, and write it here (frequency: D)."
    yield "# Column to forecast."
    yield f"label: {_scalar(draft.label)}"
    taken = (*draft.key.columns, draft.time, draft.label)
    features = [each.name for each in draft.columns if each.name not in taken and each.kind not in (None, "time")]
    if features and draft.time:
        yield "# What a model may look at beside the label's past: move each column to where it belongs."
        yield "# features:"
        yield f"#   known_ahead: {_sequence(features)}  # known for the future too, such as a planned price"
        yield "#   past_only: []  # known only afterwards"


def _percent(share: float) -> str:
    return "all" if share == 1 else f"{int(share * 1000) / 10}%"


def _columns(draft: Draft) -> Iterator[str]:
    for column in draft.columns:
        if column.kind is None:
            yield f"    # {_scalar(column.name)} has no value in any row"
        else:
            yield f"    {_scalar(column.name)}: {_mapping(_rules(column, draft))}{_remark(column, draft)}"
    for name, reason in draft.left_out.items():
        yield f"    # {_scalar(name)} {reason}: left out"


def _rules(column: ColumnFacts, draft: Draft) -> dict[str, Any]:
    """What a column must be like; of a key column and of the label not what next week may well break."""
    if column.name in draft.key.columns:
        filled, kind = column.filled + column.unparsable, "text" if column.stored == "string" else column.kind
        return {"type": kind} | ({"nullable": False} if filled == draft.rows else {})
    rules: dict[str, Any] = {"type": column.kind}
    if column.filled == draft.rows and column.name != draft.label:
        rules["nullable"] = False  # a label is empty in rows of the future
    if column.name == draft.time:
        return rules
    bounds = {"minimum": column.lowest, "maximum": column.highest}
    rules |= {name: _plain(bound) for name, bound in bounds.items() if bound is not None}
    if column.kind == "text" and column.values:
        rules["allowed"] = list(column.values)
    return rules | ({"action": "warn"} if len(rules) > 1 or column.unparsable else {})


def _plain(number: float) -> float | int:
    return int(number) if number.is_integer() and abs(number) < LARGEST_EXACT else number


def _remark(column: ColumnFacts, draft: Draft) -> str:
    if column.name in draft.key.columns:
        return f"  # about {column.distinct:,} values"
    said = [f"{column.first} to {column.last}"] if column.first is not None else []
    if column.unparsable:
        said.append(f"cells that are none: {column.unparsable:,}")
    return f"  # {'; '.join(said)}" if said else ""


def _mapping(entries: dict[str, Any]) -> str:
    return f"{{{', '.join(f'{key}: {_value(value)}' for key, value in entries.items())}}}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return _mapping(value)
    return _sequence(value) if isinstance(value, list) else _scalar(value)


def _sequence(values: Sequence[str]) -> str:
    return f"[{', '.join(map(_scalar, values))}]"


def _scalar(value: Any) -> str:
    """A value as YAML, on one line whatever is in it, fit to stand anywhere."""
    text = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=ONE_LINE).strip()[1:-1]
    if len(text.splitlines()) == 1:
        return text
    return yaml.safe_dump(value, default_style='"', allow_unicode=True, width=ONE_LINE).strip()
