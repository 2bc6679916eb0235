"""Commands of `fleet` on what it has recorded: where a model comes from, and what of the past is kept."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.run_job import dagster_instance
from orchestration.terminal import DEFAULT_CONFIG, Config, mistakes_shown, mlflow_of, out, print_columns, settings_of
from resources.problems import InputError, Problem

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from orchestration.retention import Part, Plan

NAMED, KILO, UNITS = 8, 1000.0, ("kB", "MB", "GB", "TB")


def lineage(
    segment: Annotated[str, typer.Argument(help='A segment of the champion, such as "a|b".')],
    config: Config = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Shows what the model that serves a segment was made from: snapshot, code, configuration, MLflow run."""
    with mistakes_shown():
        settings = settings_of(config)
        from assets.champions.lineage import segment_lineage
        from resources.lake import Lake

        found = segment_lineage(Lake(uri=settings.lake), mlflow_of(settings), segment)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        shown = {name.replace("_", " "): "none" if fact is None else fact for name, fact in found.items()}
        print_columns(f"{settings.name}: lineage", shown)


def prune(
    config: Config = DEFAULT_CONFIG,
    keep: Annotated[
        int | None, typer.Option(min=0, help="Versions to keep of everything; by default what fleet.yaml says.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove it; without this it is only shown.")] = False,
) -> None:
    """Shows what of the past nothing needs any more, and with --yes removes it."""
    with mistakes_shown():
        settings = settings_of(config)
        from orchestration.retention import carry_out, plan_of
        from resources.lake import Lake

        lake, mlflow = Lake(uri=settings.lake), mlflow_of(settings)
        if not yes:
            plan = plan_of(lake, mlflow, settings, keep)
        else:
            with dagster_instance() as instance:
                refuse_beside_a_run(instance, settings.name, "--yes")
                plan = plan_of(lake, mlflow, settings, keep)
                print_columns(f"{settings.name}: to be removed", _said(plan))
                carry_out(lake, plan)
    if yes:
        out.print(f"{settings.name}: removed")
    else:
        print_columns(f"{settings.name}: to be removed with --yes; nothing was changed", _said(plan))


def refuse_beside_a_run(instance: DagsterInstance, name: str, where: str) -> None:
    """A run may be about to commit a file that no version lists yet.

    Raises:
        InputError: a run of this fleet is under way.
    """
    from dagster import DagsterRunStatus, RunsFilter

    from orchestration.dead_runs import fail_dead_runs

    fail_dead_runs(instance)
    under_way = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    runs = instance.get_runs(RunsFilter(statuses=under_way))
    if ours := [run for run in runs if run.tags.get("fleet", name) == name]:
        what = f"run {ours[0].run_id} is under way"
        raise InputError([Problem(where, what, "wait until it has ended, or end it in Dagster's UI")])


def _said(plan: Plan) -> dict[str, Any]:
    """A line for each table or folder, and one for all."""
    if not plan.parts:
        return {"nothing": "all that is there is needed"}
    return {
        **{part.name: _part_said(part) for part in plan.parts},
        "in all": f"{plan.files:,} files, {_size(plan.size)}",
    }


def _part_said(part: Part) -> str:
    from assets.evaluation.incumbent import CHAMPIONS
    from assets.models.store import MODELS

    counted = f"{len(part.files):,} files, {_size(part.size)}"
    if not part.gone:
        return counted
    noun = {MODELS: "trainings", CHAMPIONS: "champions"}.get(part.name, "versions")
    more = ", ..." if len(part.gone) > NAMED else ""
    return f"{len(part.gone):,} {noun} ({', '.join(part.gone[:NAMED])}{more}): {counted}"


def _size(count: float) -> str:
    if count < KILO:
        return f"{count:,.0f} bytes"
    power = min(int(math.log(count, KILO)), len(UNITS))
    return f"{count / KILO**power:,.1f} {UNITS[power - 1]}"
