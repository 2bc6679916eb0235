"""What the servers logged, folded into committed tables: a row an hour and version, and a sample of rows and forecasts.

Servers write small documents (`assets.champions.serving.watch`); a day that has new ones is read anew as a whole, so
that nothing is counted twice, whatever dies on the way. Documents are removed once their day is a fortnight old.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from assets.champions.serving.watch import LOG, SAMPLE, SERVING, seconds_of
from assets.code_version import code_version
from assets.models.line import BASELINE, FLEET_MODEL, SEGMENT_MODEL
from resources.files import files_under, folders_in, read_file, remove, write_parquet
from resources.lake import Lake

DAY = "day"
DAYS_KEPT, SAMPLED_AN_HOUR, SUFFIX = 14, 1_000, ".json"
COUNTED = ("requests", "refused", "failed", "unknown", "rows")
CODE_VERSION = code_version("assets.serving.log")
HOURS = pa.schema([
    ("hour", pa.timestamp("us")),
    ("version", pa.int64()),
    *((name, pa.int64()) for name in (*COUNTED, SEGMENT_MODEL, FLEET_MODEL, BASELINE, "processes")),
    *((name, pa.float64()) for name in ("p50", "p99", "slowest")),
    ("latency", pa.map_(pa.int32(), pa.int64())),
])  # fmt: skip
ROWS = pa.schema([
    ("hour", pa.timestamp("us")),
    ("version", pa.int64()),
    ("model", pa.string()),
    ("forecast", pa.float64()),
    ("inputs", pa.string()),
])  # fmt: skip


@dataclass(frozen=True)
class Folded:
    """What a look at the log found: days that were folded, documents of these, and those that could not be read."""

    days: list[str]
    documents: int
    unreadable: int


def fold_log(lake: Lake, now: datetime) -> Folded:
    """Brings the tables up to date with the log; commits nothing where nothing is new."""
    table = lake.table(SERVING)
    before, record = table.version(), table.record()
    known: dict[str, int] = record.get("documents", {})
    listed = {day: files for day in sorted(folders_in(lake.path(LOG))) if (files := _documents(lake, day))}
    # of a day whose documents were removed, a latecomer would be all that is left
    oldest = (now - timedelta(days=DAYS_KEPT)).strftime("%Y-%m-%d")
    new = [day for day, files in listed.items() if len(files) != known.get(day) and (day >= oldest or day not in known)]
    read = {day: _read(listed[day]) for day in new}
    if new:
        documents = {**known, **{day: len(listed[day]) for day in new}}
        hours = {day: pa.Table.from_pylist(_hours(said), HOURS) for day, (said, _) in read.items()}
        sample = {day: pa.Table.from_pylist(_sampled(said), ROWS) for day, (said, _) in read.items()}
        _replace(lake, SAMPLE, sample, {"documents": documents}, lake.table(SAMPLE).version())
        _replace(lake, SERVING, hours, {"documents": documents}, before)
    for day in listed:
        if day < oldest:
            remove(lake.path(f"{LOG}/{day}"))
    return Folded(new, sum(len(listed[day]) for day in new), sum(lost for _, lost in read.values()))


def has_news(lake: Lake) -> bool:
    """Whether the log holds documents that the tables do not."""
    known: dict[str, int] = lake.table(SERVING).record().get("documents", {})
    days = sorted(folders_in(lake.path(LOG)), reverse=True)
    return any(len(_documents(lake, day)) != known.get(day, 0) for day in days)


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """The latency that a share of requests does not exceed, in seconds, at most 5% too high; None of no requests."""
    total, passed = sum(counts.values()), 0
    for step in sorted(counts):
        passed += counts[step]
        if passed >= share * total:
            return seconds_of(step)
    return None


def _documents(lake: Lake, day: str) -> list[str]:
    return [file.uri for file in files_under(lake.path(f"{LOG}/{day}")) if file.uri.endswith(SUFFIX)]


def _read(files: Sequence[str]) -> tuple[list[dict[str, Any]], int]:
    """The documents of some files, and how many could not be read: a server that died leaves none in part."""
    found: list[dict[str, Any]] = []
    for file in files:
        try:
            found.append(json.loads(read_file(file) or b""))
        except ValueError:
            continue
    return found, len(files) - len(found)


def _hours(said: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row an hour and version."""
    parts: dict[tuple[datetime, int | None], list[Mapping[str, Any]]] = {}
    for each in said:
        parts.setdefault((_hour(each), each["version"]), []).append(each)
    return [_row(hour, version, some) for (hour, version), some in sorted(parts.items(), key=lambda part: part[0][0])]


def _row(hour: datetime, version: int | None, some: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    latency: Counter[int] = Counter()
    made_by: Counter[str] = Counter()
    for each in some:
        latency.update({int(step): count for step, count in each["latency"].items()})
        made_by.update(each["made_by"])
    return {
        "hour": hour,
        "version": version,
        **{name: sum(each[name] for each in some) for name in COUNTED},
        **{name: made_by[name] for name in (SEGMENT_MODEL, FLEET_MODEL, BASELINE)},
        "processes": len({each["process"] for each in some}),
        "p50": quantile(latency, 0.5),
        "p99": quantile(latency, 0.99),
        "slowest": max(each["slowest"] for each in some),
        "latency": sorted(latency.items()),
    }


def _sampled(said: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the samples, as many of an hour as are kept, the same ones whenever the same documents are read."""
    found: dict[datetime, list[dict[str, Any]]] = {}
    for each in said:
        hour = _hour(each)
        for row in each["sample"]:
            inputs = json.dumps(row["inputs"], ensure_ascii=False)
            kept = {"hour": hour, "version": each["version"], "model": row["model"], "forecast": row["forecast"]}
            found.setdefault(hour, []).append({**kept, "inputs": inputs})
    draw = random.Random(0)
    return [row for rows in found.values() for row in draw.sample(rows, min(len(rows), SAMPLED_AN_HOUR))]


def _hour(said: Mapping[str, Any]) -> datetime:
    start = datetime.fromtimestamp(said["start"], UTC)
    return start.replace(minute=0, second=0, microsecond=0, tzinfo=None)


def _replace(lake: Lake, name: str, rows: Mapping[str, pa.Table], record: dict[str, Any], before: int | None) -> None:
    table = lake.table(name)
    with table.staging() as staging:
        for day, own in rows.items():
            write_parquet(own, f"{staging.uri}/{DAY}={day}/rows.parquet")
        schema = next(iter(rows.values())).schema.append(pa.field(DAY, pa.string()))
        replacing = None if before is None else list(rows)
        table.commit(staging, schema, record, partition_by=[DAY], replacing=replacing, after=before)
