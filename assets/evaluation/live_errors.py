"""Live errors: what was really forecast against what came, kept as a history per segment, issue and version.

Rows and record of an issue are replaced as more of its labels come, until a horizon after its last period; they outlive
the forecasts themselves, which a prune removes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.code_version import code_version, version_of
from assets.evaluation.issues import FORECASTS, SHADOW_FORECASTS, Issue, issues_of
from assets.evaluation.live_score import GROUPS, LINE, SUMS, IssueFiles, LiveTask, bucket_of_file, live_bucket
from assets.features.publish import FeatureSet
from assets.features.rebuild import committed_files
from resources.files import write_parquet
from resources.lake import Lake
from resources.spark import Spark
from resources.spread import Say, spread

LIVE_ERRORS, LIVE_PERIODS, ISSUE = "live_errors", "live_periods", "issue"
CODE_VERSION = code_version("assets.evaluation.live_score", "assets.evaluation.issues")
CORRECTED_FOR = 1  # horizons after an issue's last period in which late and corrected labels still count
ISSUES_AT_ONCE = 8
BY_SEGMENT = pa.schema([field for field in LINE if field.name not in (ISSUE, "period")])
BY_PERIOD = pa.schema(
    [pa.field("time", pa.timestamp("us"))] + [field for field in LINE if field.name not in (ISSUE, "segment", "model")]
)


def scored_issues(lake: Lake) -> dict[int, dict[str, Any]]:
    """What is recorded of each issue that was scored, the oldest first; no rows are read."""
    found: dict[int, dict[str, Any]] = {}
    for record in lake.table(LIVE_ERRORS).records().values():
        for version, said in record.get("issues", {}).items():
            found.setdefault(int(version), said)
    return dict(sorted(found.items()))


def history_digest(scored: Mapping[int, dict[str, Any]]) -> str:
    """Data version of the history: equal for equal forecasts, labels and code."""
    return version_of(*(said["state"] for said in scored.values())) if scored else "none"


def pending_issues(lake: Lake, features: FeatureSet) -> list[Issue]:
    """Issues that have labels now which were not counted before: told from records alone."""
    scored = scored_issues(lake)
    return [each for each in issues_of(lake, features) if each.there and _is_pending(each, features, scored)]


def unscored_issues(lake: Lake, features: FeatureSet) -> set[int]:
    """Issues some of whose periods were not scored yet: they must not be pruned."""
    scored = scored_issues(lake)
    return {
        each.version
        for each in issues_of(lake, features)
        if each.there and (each.version not in scored or scored[each.version]["awaited"])
    }


def _is_pending(issue: Issue, features: FeatureSet, scored: Mapping[int, dict[str, Any]]) -> bool:
    last, before = features.profile.last_period, scored.get(issue.version)
    if issue.origin >= last:
        return False
    if before is None:
        return True
    settled = before["last_period"] >= issue.end + CORRECTED_FOR * len(issue.ahead)
    # an older snapshot knows less than was known before
    return not settled and before["last_period"] <= last and before["state"] != _state(issue, features)


def _state(issue: Issue, features: FeatureSet) -> str:
    in_force_until = min(issue.until, features.profile.last_period)
    return version_of(issue.record["digest"], issue.shadow, features.digest, issue.after, in_force_until, CODE_VERSION)


def score_issues(lake: Lake, spark: Spark, features: FeatureSet, say: Say | None = None) -> list[int]:
    """Scores the pending issues and commits them, a few at a time; gives which they were, nothing if there are none."""
    pending = pending_issues(lake, features)
    for start in range(0, len(pending), ISSUES_AT_ONCE):
        some = pending[start : start + ISSUES_AT_ONCE]
        _commit(lake, some, features, _lines(lake, spark, some, features, say))
    return [issue.version for issue in pending]


def _lines(lake: Lake, spark: Spark, issues: Sequence[Issue], features: FeatureSet, say: Say | None) -> pa.Table:
    labels, by_bucket = committed_files(lake, features), dict[int, list[IssueFiles]]()
    for issue in issues:
        served = _by_bucket(lake, FORECASTS, issue.version)
        shadow = _by_bucket(lake, SHADOW_FORECASTS, issue.shadow)
        for bucket, files in served.items():
            by_bucket.setdefault(bucket, []).append(IssueFiles(issue, files, shadow.get(bucket, ())))
    tasks = [LiveTask(labels.get(bucket, ()), tuple(files)) for bucket, files in by_bucket.items()]
    work = partial(live_bucket, recipe=features.recipe, last=features.profile.last_period)
    return spread(spark, tasks, work, LINE, short=True, what="live errors", say=say)


def _by_bucket(lake: Lake, name: str, version: int | None) -> dict[int, tuple[str, ...]]:
    found: dict[int, tuple[str, ...]] = {}
    for file in lake.table(name).files(version) if version is not None else []:
        bucket = bucket_of_file(file)
        found[bucket] = (*found.get(bucket, ()), file)
    return found


@dataclass(frozen=True)
class _Scored:
    """One issue's rows for the two tables."""

    issue: Issue
    segments: pa.Table
    periods: pa.Table


def _commit(lake: Lake, issues: Sequence[Issue], features: FeatureSet, lines: pa.Table) -> None:
    """First the sums by period, then those by segment with the record that says it was done."""
    scored = []
    for issue in issues:
        own = lines.filter(pc.equal(lines[ISSUE], issue.version))
        by_segment = own.filter(pc.is_valid(own["segment"])).select(BY_SEGMENT.names)
        scored.append(_Scored(issue, by_segment.sort_by("segment"), _periods(issue, own)))
    said = {str(each.issue.version): _said(each, features) for each in scored}
    record = {"issues": said, "features_version": features.version}
    _replace(lake, LIVE_PERIODS, {each.issue.version: each.periods for each in scored}, {"issues": sorted(said)})
    _replace(lake, LIVE_ERRORS, {each.issue.version: each.segments for each in scored}, record)


def _periods(issue: Issue, own: pa.Table) -> pa.Table:
    """Sums over the buckets, in one order whatever order the workers were in."""
    lines = own.filter(pc.is_valid(own["period"])).drop_columns(["segment", "model"])
    by = [*GROUPS, "period"]
    lines = lines.sort_by([(name, "ascending") for name in (*by, *SUMS)])
    summed = lines.group_by(by, use_threads=False).aggregate([(name, "sum") for name in SUMS])
    places = pc.subtract(summed["period"], issue.origin + 1)
    times = pa.array(issue.ahead, pa.int64()).take(places.combine_chunks()).cast(pa.timestamp("us"))
    named = summed.rename_columns([*by, *SUMS]).append_column("time", times)
    return named.select(BY_PERIOD.names).cast(BY_PERIOD)


def _said(scored: _Scored, features: FeatureSet) -> dict[str, Any]:
    issue, last = scored.issue, features.profile.last_period
    by = [name for name in GROUPS if name != ISSUE]
    totals = scored.periods.group_by(by, use_threads=False).aggregate([(name, "sum") for name in SUMS])
    served = scored.periods.filter(pc.equal(scored.periods["role"], "served"))
    counted = {name: pc.sum(served[name]).as_py() or 0 for name in ("count", "missing")}
    return {
        "state": _state(issue, features),
        "origin": issue.origin,
        "end": issue.end,
        "last_period": last,
        "start": issue.record["start"],
        "through": issue.record["end"],
        "scored": counted["count"],
        "missing": counted["missing"],
        "awaited": issue.record["rows"] // len(issue.ahead) * max(0, issue.end - last),
        "champion": issue.record.get("version"),
        "pair": issue.pair,
        "evaluations": issue.record.get("evaluations", {}),
        "totals": totals.rename_columns([*by, *SUMS]).to_pylist(),
    }


def _replace(lake: Lake, name: str, rows: Mapping[int, pa.Table], record: dict[str, Any]) -> None:
    table = lake.table(name)
    before = table.version()
    with table.staging() as staging:
        files = []
        for issue, own in rows.items():
            files.append(f"{ISSUE}={issue}/rows.parquet")
            write_parquet(own, f"{staging.uri}/{files[-1]}")
        schema = next(iter(rows.values())).schema.append(pa.field(ISSUE, pa.int64()))
        table.commit(
            staging,
            schema,
            record,
            partition_by=[ISSUE],
            files=files,
            replacing=None if before is None else [str(issue) for issue in rows],
            after=before,
        )
