"""A job run in this process, as the command line does it, and what is said where it does not end well."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from orchestration.terminal import FAILED, err, stop
from resources.settings import REPOSITORY_ROOT, Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance, ExecuteJobResult


MOST_SHOWN = 300


@contextmanager
def dagster_instance() -> Iterator[DagsterInstance]:
    """The Dagster instance of DAGSTER_HOME, or the one that lives in the repository root."""
    os.environ.setdefault("DAGSTER_HOME", str(REPOSITORY_ROOT))
    Path(os.environ["DAGSTER_HOME"]).mkdir(parents=True, exist_ok=True)
    from dagster import DagsterInstance

    with DagsterInstance.get() as instance:
        yield instance


def run_job(settings: Settings, job: str, config: dict[str, dict[str, Any]]) -> None:
    """Runs a job with the configuration of some of its assets; where it goes wrong, says why and ends."""
    with dagster_instance() as instance:
        before = _commits(settings)
        result = _execute(settings, instance, job, config)
        problems = _input_problems(result)
        if problems:
            stop(problems, [name for name, version in _commits(settings).items() if version != before[name]])
        if not result.success:
            _show_failure(result)
            raise typer.Exit(FAILED)
        if _show_failed_checks(result):
            raise typer.Exit(FAILED)


def _execute(
    settings: Settings, instance: DagsterInstance, job: str, config: dict[str, dict[str, Any]]
) -> ExecuteJobResult:
    from dagster import execute_job
    from dagster._core.definitions.reconstruct import ReconstructableRepository

    from orchestration.dead_runs import PROCESS_TAG, fail_dead_runs, process_tag

    repository = ReconstructableRepository.for_module("orchestration.definitions", "defs", str(REPOSITORY_ROOT))
    run_config: dict[str, Any] = {"loggers": {"terminal": {"config": "INFO"}}}
    run_config["ops"] = {f"{settings.name}__{asset}": {"config": own} for asset, own in config.items()}
    fail_dead_runs(instance)
    tags = {"fleet": settings.name, PROCESS_TAG: process_tag()}
    return execute_job(
        repository.get_reconstructable_job(job),
        instance=instance,
        run_config=run_config,
        raise_on_error=False,
        tags=tags,
    )


def _input_problems(result: ExecuteJobResult) -> list[str]:
    from assets.presentation import INPUT_PROBLEMS

    found: list[str] = []
    for event in result.all_events:
        failure = event.step_failure_data.user_failure_data if event.is_step_failure else None
        if failure and INPUT_PROBLEMS in failure.metadata:
            found += failure.metadata[INPUT_PROBLEMS].value
    return list(dict.fromkeys(found))


def _show_failure(result: ExecuteJobResult) -> None:
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error:
            err.print(f"[red]{event.step_key} failed:[/red]", event.step_failure_data.error.to_string(), markup=True)
    err.print(f"The last committed state is untouched. `make ui` shows run {result.run_id}.")


def _show_failed_checks(result: ExecuteJobResult) -> bool:
    """Names the checks that failed though the run went on; gives whether one of them is an error."""
    from dagster import AssetCheckSeverity, DagsterEventType

    events = [event for event in result.all_events if event.event_type == DagsterEventType.ASSET_CHECK_EVALUATION]
    failed = [each for each in (event.asset_check_evaluation_data for event in events) if not each.passed]
    for check in failed:
        is_error = check.severity == AssetCheckSeverity.ERROR
        colour, how = ("red", "failed") if is_error else ("yellow", "warns")
        told = "; ".join(f"{name}: {_plain(value.value)}" for name, value in check.metadata.items())
        err.print(
            Text(f"check {check.asset_key.path[-1]}.{check.check_name} {how}: {told}", style=colour), soft_wrap=True
        )
    return any(check.severity == AssetCheckSeverity.ERROR for check in failed)


def _plain(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)[:MOST_SHOWN]


def _commits(settings: Settings) -> dict[str, int | None]:
    """Version of each table whose commit may come before a mistake is found."""
    from assets.features.publish import FEATURES
    from assets.raw.snapshot import RAW
    from resources.lake import Lake

    return {name: Lake(uri=settings.lake).table(name).version() for name in (RAW, FEATURES)}
