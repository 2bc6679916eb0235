"""What a finished run is to be told about: its errors, the checks that failed or warn, the segments that failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from itertools import accumulate
from typing import Any

from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    MetadataValue,
    TableMetadataValue,
)

from assets.models.asset import SEGMENT_MODELS
from resources.environment import without_passwords
from resources.notifier import Message
from resources.settings import Settings

# the second says for which segments a run was asked, in words
FLEET_TAG, DRIFTED_TAG = "fleet", "fleet/drifted"
OF_PARTITIONS = ("dagster/partition", "dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
MOST_NAMED, LONGEST_LINE, LONGEST_LIST = 10, 400, 2_500
REPEATED_AFTER = 7 * 86_400.0
# metadata that is for eyes
NOT_TOLD = ("dagster/column_schema", "dagster/uri")


def is_of_fleet(run: DagsterRun, name: str) -> bool:
    """Whether a run is this fleet's: by its tag or, where somebody materialized assets in the UI, by its assets."""
    if FLEET_TAG in run.tags:
        return run.tags[FLEET_TAG] == name
    selected = run.asset_selection or ()
    return bool(selected) and all(key.path[0] == name for key in selected)


def run_link(settings: Settings, run_id: str) -> str:
    """The page of a run in Dagster's UI."""
    return f"{settings.notify.ui.rstrip('/')}/runs/{run_id}"


def message_of(
    instance: DagsterInstance, run: DagsterRun, settings: Settings, standing: dict[str, float], now: float
) -> Message | None:
    """The one message about a finished run; None where there is nothing that its owner need know.

    `standing` has when each check that warned the last time was told of, and is brought up to date.
    """
    failed, checks = run.status == DagsterRunStatus.FAILURE, _evaluations(instance, run.run_id)
    errors = [check for check in checks if not check.passed and check.severity == AssetCheckSeverity.ERROR]
    minor = [check for check in checks if _warns(check) or _failed_segments(check)]
    told = newly_standing(set(map(_name, checks)), set(map(_name, minor)), standing, now)
    minor = [check for check in minor if _name(check) in told and settings.notify.warnings]
    warnings, tolerated = [each for each in minor if _warns(each)], [each for each in minor if not _warns(each)]
    lines = _failures_said(instance, run) if failed else []
    for how, some in (("ERROR", errors), ("WARN", warnings), ("tolerated", tolerated)):
        lines += [f"{how} {_name(check)}: {_metadata_said(check.metadata)}" for check in some]
    if not lines:
        return None
    body = [*_fitting([without_passwords(_cut(line)) for line in lines]), run_link(settings, run.run_id)]
    title = f"{settings.name}: {_title(run, failed, len(errors), len(warnings))}"
    return Message(title, "\n".join(body), is_error=failed or bool(errors))


def newly_standing(evaluated: Set[str], warning: Set[str], standing: dict[str, float], now: float) -> set[str]:
    """Checks whose warning is news: it begins, or stands and was not told for a week. `standing` is brought up to date.

    Who is warned of the same thing in every run reads none of it.
    """
    for name in evaluated - warning:
        standing.pop(name, None)
    new = {name for name in warning if now - standing.get(name, -REPEATED_AFTER) >= REPEATED_AFTER}
    standing |= dict.fromkeys(new, now)
    return new


def _title(run: DagsterRun, failed: bool, errors: int, warnings: int) -> str:
    if failed:
        return f"{run.job_name} failed"
    said = [f"{_count(errors, 'check')} failed"] if errors else []
    said += [f"{_count(warnings, 'check')} warned"] if warnings else []
    return f"{run.job_name}: {', '.join(said) or 'some segments failed'}"


def _name(check: AssetCheckEvaluation) -> str:
    return f"{check.asset_key.path[-1]}.{check.check_name}"


def _warns(check: AssetCheckEvaluation) -> bool:
    return not check.passed and check.severity == AssetCheckSeverity.WARN


def _evaluations(instance: DagsterInstance, run_id: str) -> list[AssetCheckEvaluation]:
    """The last evaluation of each check in a run."""
    events = _events(instance, run_id, DagsterEventType.ASSET_CHECK_EVALUATION)
    found = {event.asset_check_evaluation_data.asset_check_key: event.asset_check_evaluation_data for event in events}
    return list(found.values())


def _failures_said(instance: DagsterInstance, run: DagsterRun) -> list[str]:
    lines = []
    for event in _events(instance, run.run_id, DagsterEventType.STEP_FAILURE):
        data, step = event.step_failure_data, (event.step_key or "").rpartition("__")[2]
        explained = data.user_failure_data.description if data.user_failure_data else None
        if explained:
            lines += [f"{step} failed: {line}" for line in explained.splitlines()]
            continue
        error = data.error.cause if data.error and data.error.cause else data.error
        lines.append(f"{step} failed: {error.message.strip() if error else 'no reason given'}")
    if not lines:
        ends = _events(instance, run.run_id, DagsterEventType.RUN_FAILURE)
        lines = [event.message or "" for event in ends] or ["it failed without saying why"]
    asked = ", ".join(run.tags[tag] for tag in (DRIFTED_TAG, *OF_PARTITIONS) if tag in run.tags)
    return [*lines, f"it was asked for segments {asked}"] if asked else lines


def _metadata_said(metadata: Mapping[str, MetadataValue[Any]]) -> str:
    said = {name: _plain(value) for name, value in metadata.items() if name not in NOT_TOLD}
    return "; ".join(f"{name} {value}" for name, value in said.items() if value) or "failed"


def _plain(value: MetadataValue[Any]) -> str:
    if isinstance(value, TableMetadataValue):
        rows: list[Any] = [dict(record.data) for record in value.records]
    else:
        rows = value.value if isinstance(value.value, list) else [value.value]
    texts = [_row(row) if isinstance(row, dict) else _number(row) for row in rows]
    more = f" and {len(texts) - MOST_NAMED} more" if len(texts) > MOST_NAMED else ""
    text = "; ".join(texts[:MOST_NAMED]) + more
    return "" if text.startswith("![") else text  # a plot


def _row(row: dict[str, Any]) -> str:
    """The values of a row, its segment first: Dagster keeps keys by the alphabet."""
    return ", ".join(_number(row[name]) for name in sorted(row, key=lambda name: name != "segment"))


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _failed_segments(check: AssetCheckEvaluation) -> int:
    """How many segments failed in a training though so few are tolerated."""
    if not check.passed or (check.asset_key.path[-1], check.check_name) != (SEGMENT_MODELS, "few_failures"):
        return 0
    failed = check.metadata.get("failed")
    return int(failed.value) if failed and isinstance(failed.value, int) else 0


def _events(instance: DagsterInstance, run_id: str, kind: DagsterEventType) -> Iterator[DagsterEvent]:
    for record in instance.get_records_for_run(run_id, of_type=kind).records:
        yield record.event_log_entry.get_dagster_event()


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} ..."


def _fitting(lines: list[str]) -> list[str]:
    """As many lines as a message holds, and how many more there are."""
    sizes = accumulate(len(line) + 1 for line in lines)
    taken = sum(size <= LONGEST_LIST for size in sizes)
    return lines[:taken] + ([f"and {len(lines) - taken} more"] if taken < len(lines) else [])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
