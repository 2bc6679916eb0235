"""`fleet diff` and `fleet deploy`: what would change in a target, and the one way in which it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from orchestration.checks.results import FAILED as CHECK_FAILED
from orchestration.run_job import checked, dagster_instance
from orchestration.terminal import (
    DEFAULT_CONFIG,
    FAILED,
    Config,
    err,
    mistakes_shown,
    mlflow_of,
    out,
    print_columns,
    settings_of,
)
from resources.problems import InputError, Problem
from resources.settings import Settings, chosen_target

if TYPE_CHECKING:
    from orchestration.deployment.state import State
    from resources.lake import Lake


def diff(
    config: Config = DEFAULT_CONFIG,
    against: Annotated[
        Path | None, typer.Option(help="A state that `--write` wrote, rather than what was deployed last.")
    ] = None,
    write: Annotated[Path | None, typer.Option(help="Only write what would be deployed, as JSON.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a page for a job's summary here.")] = None,
) -> None:
    """Shows what a deployment would change: settings, code of assets, and what would be retrained for it."""
    with mistakes_shown():
        settings = settings_of(config)
        from orchestration.deployment.difference import as_lines, as_markdown, difference
        from orchestration.deployment.state import state_of, state_text

        now = state_of(chosen_target())
        if write:
            _write(write, state_text(now))
            return
        before, title = _before(settings, against)
        found = difference(before, now, _segments(settings)) if before else None
    lines = as_lines(found) if found else ["nothing was deployed yet: all is new"]
    print_columns(f"{settings.name}: {title}", {str(number): line for number, line in enumerate(lines, 1)})
    if markdown:
        _write(markdown, as_markdown(title, found) if found else f"## {title}\n\n{lines[0]}\n")


def deploy(
    config: Config = DEFAULT_CONFIG,
    by: Annotated[str, typer.Option(help="Who deploys, for the record.")] = "",
    no_checks: Annotated[
        bool, typer.Option("--no-checks", help="Do not run the asset checks on the target's data.")
    ] = False,
    webserver: Annotated[
        str | None, typer.Option(help="Dagster's web page that is to reload; by default dagster.webserver.")
    ] = None,
) -> None:
    """Validates, runs the asset checks, migrates Dagster's storage and the lake, records, and reloads the code."""
    with mistakes_shown():
        settings = settings_of(config)
        done = _deployed(settings, by, checks=not no_checks)
        if address := webserver or settings.dagster.webserver:
            from orchestration.deployment.reload import reload_location

            reload_location(address, settings.dagster.location)
            done["reloaded"] = settings.dagster.location
    print_columns(f"{settings.name}: deployed to {chosen_target() or 'no target'}", done)


def _deployed(settings: Settings, by: str, *, checks: bool) -> dict[str, Any]:
    """What was done, by step; nothing is changed before all that can refuse has had its say."""
    from orchestration.deployment.migrations import migrate, pending
    from orchestration.deployment.state import deployments, record_deployment, state_of
    from orchestration.validate_command import validated
    from resources.lake import Lake

    lake = Lake(uri=settings.lake)
    done: dict[str, Any] = {"validated": f"{validated(settings)['rows']} rows"}
    known = deployments(lake)
    outstanding = pending(lake, known[-1].format if known else None)
    done["checks"] = _checks(settings, lake) if checks else "left out"
    with dagster_instance() as instance:
        if outstanding:
            from orchestration.record_commands import refuse_beside_a_run

            refuse_beside_a_run(instance, settings.name, "fleet deploy")
        instance.upgrade()
        done["Dagster's storage"] = type(instance.event_log_storage).__name__
    done["lake migrated"] = "; ".join(migrate(lake, outstanding)) or "nothing to do"
    mlflow_of(settings).client()
    done["MLflow"] = f"experiment {settings.name}"
    state = state_of(chosen_target(), by)
    record_deployment(lake, state)
    return done | {"code": state.commit or "not of a repository"}


def _checks(settings: Settings, lake: Lake) -> str:
    """What the checks say of the target's data; ends with FAILED if one of severity error fails."""
    from assets.raw.snapshot import RAW
    from orchestration.jobs import CHECK

    if not lake.table(RAW).exists():
        return "no data yet"
    results = checked(settings, CHECK, "*", None)
    failed = [each for each in results if each.outcome == CHECK_FAILED]
    for each in failed:
        err.print(Text(f"check {each.name} failed: {each.said}", style="red"), soft_wrap=True)
    if failed:
        out.print("nothing was deployed; --no-checks deploys all the same", soft_wrap=True)
        raise typer.Exit(FAILED)
    return f"{len(results)} run, none failed"


def _before(settings: Settings, against: Path | None) -> tuple[State | None, str]:
    from orchestration.deployment.state import deployments, state_from
    from resources.lake import Lake

    if against is None:
        known = deployments(Lake(uri=settings.lake))
        return (known[-1] if known else None), f"what would change in {chosen_target() or settings.lake}"
    try:
        return state_from(against.read_bytes()), f"what would change against {against.stem}"
    except (OSError, ValueError, TypeError) as error:
        what = f"cannot be read ({error})"
        raise InputError([Problem(f"--against {against}", what, "write it with fleet diff --write")]) from None


def _segments(settings: Settings) -> int | None:
    """How many segments the fleet has, as its last run found."""
    from assets.features.publish import FEATURES
    from resources.lake import Lake

    return Lake(uri=settings.lake).table(FEATURES).record().get("segments")


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
