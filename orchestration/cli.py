"""The command `fleet`: thin over the same jobs that the UI and the schedule run.

Exit codes: 0 done; 1 the run or a check (of severity error) failed; 2 configuration or input is wrong.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from orchestration.backtest_command import backtest
from orchestration.calibrate_command import calibrate
from orchestration.check_command import check
from orchestration.data_commands import contract, init, schema
from orchestration.deploy_commands import deploy, diff
from orchestration.explain_command import explain
from orchestration.export_command import export
from orchestration.promotion_commands import promote, reject, rollback, unpin, versions
from orchestration.record_commands import lineage, prune
from orchestration.run_job import run_job
from orchestration.target_option import with_target
from orchestration.terminal import (
    DEFAULT_CONFIG,
    Config,
    err,
    mistakes_shown,
    mlflow_of,
    out,
    print_columns,
    settings_of,
)
from orchestration.tune_command import tune
from orchestration.validate_command import refuse_unusable, validate
from resources.location import absolute
from resources.problems import InputError, Problem
from resources.settings import CONFIG_VARIABLE, REPOSITORY_ROOT, Settings

DEMO_TABLE = REPOSITORY_ROOT / "data" / "demo" / "sales.parquet"

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
OF_DATA = (init, contract, schema, lineage, explain, prune)
OF_PROMOTION = (versions, promote, reject, rollback, unpin, export)
for each in (*OF_DATA, *OF_PROMOTION, check, validate, diff, deploy, backtest, tune, calibrate):
    app.command()(with_target(each))


def _command(function: Callable[..., None]) -> Callable[..., None]:
    return app.command()(with_target(function))


@_command
def run(
    config: Config = DEFAULT_CONFIG,
    segment: Annotated[list[str] | None, typer.Option(help='Train just this one, such as "a|b"; repeatable.')] = None,
    force: Annotated[bool, typer.Option(help="Train also what has a model of the same rows and recipe.")] = False,
    snapshot: Annotated[
        int | None, typer.Option(help="Work on this earlier snapshot of the data, as `fleet snapshots` numbers them.")
    ] = None,
) -> None:
    """Runs the weekly cycle: what changed is retrained, judged, promoted if not worse, and forecast."""
    with mistakes_shown():
        settings = settings_of(config)
        refuse_unusable(settings)
        from assets.models.asset import SEGMENT_MODELS
        from assets.raw.snapshot import RAW
        from orchestration.jobs import WEEKLY_CYCLE

        training = {"segments": segment or None, "force": force}
        from_snapshot: dict[str, Any] = {} if snapshot is None else {"snapshot": snapshot}
        given: dict[str, dict[str, Any]] = {SEGMENT_MODELS: training, RAW: from_snapshot}
        run_job(settings, WEEKLY_CYCLE, given)
    _show_summary(settings)


@_command
def requarantine(config: Config = DEFAULT_CONFIG) -> None:
    """Judges every row of the last snapshot by today's rules: what they no longer refuse leaves quarantine."""
    with mistakes_shown():
        settings = settings_of(config)
        from assets.raw.snapshot import RAW
        from orchestration.jobs import REQUARANTINE
        from orchestration.requarantine import moved_rows, rows_by_state
        from resources.lake import Lake

        lake = Lake(uri=settings.lake)
        if not lake.table(RAW).exists():
            raise InputError([Problem(f"fleet {settings.name}", "has no data yet", "run the weekly cycle: fleet run")])
        before = rows_by_state(lake)
        run_job(settings, REQUARANTINE, {})
        moved = moved_rows(before, rows_by_state(lake))
    shown = {str(state): f"{was:,} before, {now:,} now" for state, was, now in moved.itertuples(index=False)}
    print_columns(f"{settings.name}: every row judged anew", shown)


@_command
def status(
    config: Config = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Shows rows, segments, champion, errors and forecasts of the fleet as they stand."""
    with mistakes_shown():
        settings = settings_of(config)
        found = _status(settings)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        print_columns(settings.name, {name: json.dumps(part, ensure_ascii=False) for name, part in found.items()})


@_command
def snapshots(config: Config = DEFAULT_CONFIG) -> None:
    """Lists the newest snapshots of the data, newest first, as `fleet run --snapshot` numbers them."""
    with mistakes_shown():
        settings = settings_of(config)
        from assets.raw.summary import snapshots as newest_snapshots
        from resources.lake import Lake

        found = newest_snapshots(Lake(uri=settings.lake))
        shown = found.where(found.notna(), "").to_string(index=False) if len(found) else "no snapshot yet: fleet run"
        out.print(Text(shown), soft_wrap=True)


@_command
def score(
    table: Annotated[str, typer.Option("--input", help="Rows to score: Parquet, CSV or JSON.")],
    out_table: Annotated[str, typer.Option("--out", help="Where to write them with forecasts: .parquet or .csv.")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Scores rows that you bring with the champion: each comes back with forecast, model, version and reason."""
    with mistakes_shown():
        settings = settings_of(config)
        from assets.evaluation.incumbent import published_champion
        from assets.forecasts.brought import score_brought
        from resources.lake import Lake
        from resources.spark import Spark

        lake = Lake(uri=settings.lake)
        champion = published_champion(lake, mlflow_of(settings))
        source, target = (absolute(path, Path.cwd()) for path in (table, out_table))
        counted = score_brought(lake, Spark.of(settings, source), settings, champion, source, target)
    said = ", ".join(f"{count:,} rows by {model}" for model, count in counted.items()) or "no row could be scored"
    out.print(Text(f"{settings.name}: {said}; written to {out_table}"), soft_wrap=True)


@_command
def demo(
    path: Annotated[Path, typer.Option(help="Where to write the table.")] = DEMO_TABLE,
    force: Annotated[bool, typer.Option(help="Write it anew even if it is there.")] = False,
) -> None:
    """Writes the demo table (retail sales, 200 segments, two years) unless it is there."""
    from assets.raw.demo import write_demo

    if path.exists() and not force:
        err.print(f"{path} is there already")
        return
    write_demo(path)
    err.print(f"wrote {path}")


def main() -> None:
    """Entry point of the console command."""
    app()


def _status(settings: Settings) -> dict[str, Any]:
    from orchestration.status import fleet_status
    from resources.lake import Lake

    return fleet_status(Lake(uri=settings.lake), mlflow_of(settings))


def _show_summary(settings: Settings) -> None:
    found = _status(settings)
    judged, rows, segments = found["evaluation"], found["rows"], found["segments"]
    errors = {name: judged[name] for name in ("challenger", "fleet", "served", "incumbent", "baseline")}
    shown = {
        "rows": f"{rows['read']:,} read, {rows['valid']:,} valid, {rows['quarantined']:,} in quarantine",
        "segments": ", ".join(f"{count:,} {name}" for name, count in segments.items()),
        f"{judged['metric']} on the holdout": ", ".join(
            f"{name} {'none' if error is None else f'{error:.4f}'}" for name, error in errors.items()
        ),
        "champion": f"version {found['champion']['version'] or 'none: the baseline serves'}",
        "forecasts": f"{found['forecasts']['rows']:,} rows in {settings.lake}/forecasts"
        if settings.time
        else "of rows that you bring: fleet score --input ... --out ...",
        "report": f"{settings.lake}/reports/evaluation.html",
        "UI": f"make ui CONFIG={os.environ[CONFIG_VARIABLE]}, then http://127.0.0.1:3000",
    }
    print_columns(f"{settings.name}: done", shown)
