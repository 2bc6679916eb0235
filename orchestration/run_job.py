"""A job run in this process, as the command line does it, and what is said where it does not end well."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from orchestration.checks.results import FAILED as CHECK_FAILED
from orchestration.checks.results import PASSED, CheckResult, results_of
from orchestration.terminal import FAILED, WRONG_INPUT, err, stop
from resources.problems import InputError, Problem
from resources.settings import REPOSITORY_ROOT, Settings

if TYPE_CHECKING:
    from dagster import AssetCheckKey, DagsterInstance, ExecuteJobResult


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


def checked(settings: Settings, job: str, select: str, only: Sequence[str] | None) -> list[CheckResult]:
    """What the chosen checks of a job say of it; of a job of checks alone no other is run.

    `select` is Dagster's asset selection syntax, `only` names checks. Where the job goes wrong, says why and ends.

    Raises:
        InputError: no check is chosen.
    """
    from orchestration.jobs import CHECK

    wanted = _chosen(select, only)
    with dagster_instance() as instance:
        result = _execute(settings, instance, job, {}, wanted if job == CHECK else None)
        if problems := _input_problems(result):
            stop(problems)
        if not result.success and not any(not each.passed for each in result.get_asset_check_evaluations()):
            _show_failure(result)
            raise typer.Exit(WRONG_INPUT)
    names = {f"{key.asset_key.path[-1]}.{key.name}" for key in wanted}
    return [each for each in results_of(result.all_events) if each.name in names]


def _chosen(select: str, only: Sequence[str] | None) -> set[AssetCheckKey]:
    from dagster import AssetSelection

    from orchestration.definitions import defs

    graph = defs.resolve_asset_graph()
    try:
        assets = AssetSelection.from_string(select).resolve(graph)
    except Exception as error:  # Dagster's parser raises its own kinds
        raise InputError(
            [Problem(f"--select {select}", f"cannot be understood: {error}", "see fleet check --help")]
        ) from None
    found = {key for key in graph.asset_check_keys if key.asset_key in assets and (not only or key.name in only)}
    if not found:
        raise InputError([Problem("fleet check", "no check is chosen", "name others, or none to run all")])
    return found


def _execute(
    settings: Settings,
    instance: DagsterInstance,
    job: str,
    config: dict[str, dict[str, Any]],
    checks: set[AssetCheckKey] | None = None,
) -> ExecuteJobResult:
    from dagster import execute_job
    from dagster._core.definitions.reconstruct import ReconstructableRepository

    from orchestration.dead_runs import PROCESS_TAG, fail_dead_runs, process_tag
    from orchestration.jobs import RETRIES

    repository = ReconstructableRepository.for_module("orchestration.definitions", "defs", str(REPOSITORY_ROOT))
    run_config: dict[str, Any] = {"loggers": {"terminal": {"config": "INFO"}}}
    run_config["ops"] = {f"{settings.name}__{asset}": {"config": own} for asset, own in config.items()}
    fail_dead_runs(instance)
    tags = {"fleet": settings.name, PROCESS_TAG: process_tag(), RETRIES: "0"}  # who killed it here did so knowingly
    whole = repository.get_reconstructable_job(job)
    return execute_job(
        whole if checks is None else whole.get_subset(asset_check_selection=checks),
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
    failed = [each for each in results_of(result.all_events) if each.outcome != PASSED]
    for check in failed:
        colour = "red" if check.outcome == CHECK_FAILED else "yellow"
        err.print(Text(f"check {check.name} {check.outcome}: {check.said}", style=colour), soft_wrap=True)
    return any(check.outcome == CHECK_FAILED for check in failed)


def _commits(settings: Settings) -> dict[str, int | None]:
    """Version of each table whose commit may come before a mistake is found."""
    from assets.features.publish import FEATURES
    from assets.raw.snapshot import RAW
    from resources.lake import Lake

    return {name: Lake(uri=settings.lake).table(name).version() for name in (RAW, FEATURES)}
