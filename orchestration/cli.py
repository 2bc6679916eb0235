"""The command `fleet`: thin over the same jobs that the UI and the schedule run.

Exit codes: 0 done; 1 the run or a blocking check failed; 2 configuration or input is wrong.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from resources.problems import InputError
from resources.settings import CONFIG_VARIABLE, REPOSITORY_ROOT, Settings, absolute, read_settings

if TYPE_CHECKING:
    from dagster import DagsterInstance, ExecuteJobResult

    from assets.raw.profile import Profile
    from assets.raw.recipe import Recipe
    from resources.mlflow import Mlflow

FAILED, WRONG_INPUT = 1, 2
DEMO_TABLE = REPOSITORY_ROOT / "data" / "demo" / "sales.parquet"
Config = Annotated[Path, typer.Option("--config", "-c", help="The fleet.yaml to use.")]
DEFAULT_CONFIG = Path("fleet.yaml")

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
out, err = Console(), Console(stderr=True)


@app.command()
def run(
    config: Config = DEFAULT_CONFIG,
    segment: Annotated[list[str] | None, typer.Option(help='Train just this one, such as "a|b"; repeatable.')] = None,
    force: Annotated[bool, typer.Option(help="Train also what has a model of the same rows and recipe.")] = False,
) -> None:
    """Runs the weekly cycle: what changed is retrained, judged, promoted if not worse, and forecast."""
    with _mistakes_shown():
        settings = _settings(config)
        _refuse_parameters(settings)
        with _instance() as instance:
            before = _commits(settings)
            result = _execute(settings, instance, {"segments": segment or None, "force": force})
            problems = _input_problems(result)
            if problems:
                _stop(problems, [name for name, version in _commits(settings).items() if version != before[name]])
            if not result.success:
                _show_failure(result)
                raise typer.Exit(FAILED)
    _show_summary(settings)


@app.command()
def validate(config: Config = DEFAULT_CONFIG) -> None:
    """Checks fleet.yaml and the table it names, lists every problem, and shows the settings derived from the data."""
    with _mistakes_shown():
        settings = _settings(config)
        _refuse_parameters(settings)
        from assets.raw.ingest import inspect
        from assets.raw.source import find_files, read_source
        from resources.spark import Spark

        source = read_source(Spark().session(), find_files(settings), settings)
        profile, recipe = inspect(source, settings)
    _print_columns(f"{settings.name}: valid", _derived(profile, recipe))


@app.command()
def status(
    config: Config = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Shows rows, segments, champion, errors and forecasts of the fleet as they stand."""
    with _mistakes_shown():
        settings = _settings(config)
        found = _status(settings)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        _print_columns(settings.name, {name: json.dumps(part, ensure_ascii=False) for name, part in found.items()})


@app.command()
def score(
    table: Annotated[str, typer.Option("--input", help="Rows to score: Parquet, CSV or JSON.")],
    out_table: Annotated[str, typer.Option("--out", help="Where to write them with forecasts: .parquet or .csv.")],
    config: Config = DEFAULT_CONFIG,
) -> None:
    """Scores rows that you bring with the champion: each comes back with forecast, model, version and reason."""
    with _mistakes_shown():
        settings = _settings(config)
        from assets.evaluation.incumbent import published_champion
        from assets.forecasts.brought import score_brought
        from resources.lake import Lake
        from resources.spark import Spark

        lake = Lake(uri=settings.lake)
        champion = published_champion(lake, _mlflow(settings))
        source, target = (absolute(path, Path.cwd()) for path in (table, out_table))
        counted = score_brought(lake, Spark(), settings, champion, source, target)
    said = ", ".join(f"{count:,} rows by {model}" for model, count in counted.items()) or "no row could be scored"
    out.print(Text(f"{settings.name}: {said}; written to {out_table}"), soft_wrap=True)


@app.command()
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


def _settings(config: Path) -> Settings:
    settings = read_settings(config)
    os.environ[CONFIG_VARIABLE] = str(config.resolve())
    return settings


def _derived(profile: Profile, recipe: Recipe) -> dict[str, Any]:
    """What `validate` shows of a table and of the settings derived from it."""
    if timeline := profile.timeline:
        span = f"{timeline.first_time} to {timeline.last_time}, last label {timeline.last_label}"
        lengths = {name: getattr(recipe, name) for name in ("frequency", "horizon", "holdout", "season")}
    else:
        span, lengths = "none", {"holdout": "a tenth of the rows, chosen by a hash of each"}
    return {
        "rows": f"{profile.rows:,}",
        "time": span,
        **lengths,
        "minimum_history": recipe.minimum_history,
        "features": ", ".join(recipe.features),
    }


def _refuse_parameters(settings: Settings) -> None:
    if settings.model.params:
        from assets.models.fit import parameter_problems

        if problems := parameter_problems(settings.model.model_dump()):
            raise InputError(problems)


@contextmanager
def _instance() -> Iterator[DagsterInstance]:
    """The Dagster instance of DAGSTER_HOME, or the one that lives in the repository root."""
    os.environ.setdefault("DAGSTER_HOME", str(REPOSITORY_ROOT))
    Path(os.environ["DAGSTER_HOME"]).mkdir(parents=True, exist_ok=True)
    from dagster import DagsterInstance

    with DagsterInstance.get() as instance:
        yield instance


def _execute(settings: Settings, instance: DagsterInstance, training: dict[str, Any]) -> ExecuteJobResult:
    from dagster import execute_job
    from dagster._core.definitions.reconstruct import ReconstructableRepository

    from assets.models.asset import SEGMENT_MODELS
    from orchestration.dead_runs import PROCESS_TAG, fail_dead_runs, process_tag
    from orchestration.jobs import WEEKLY_CYCLE

    repository = ReconstructableRepository.for_module("orchestration.definitions", "defs", str(REPOSITORY_ROOT))
    run_config: dict[str, Any] = {"loggers": {"terminal": {"config": "INFO"}}}
    run_config["ops"] = {f"{settings.name}__{SEGMENT_MODELS}": {"config": training}}
    fail_dead_runs(instance)
    job = repository.get_reconstructable_job(WEEKLY_CYCLE)
    tags = {"fleet": settings.name, PROCESS_TAG: process_tag()}
    return execute_job(job, instance=instance, run_config=run_config, raise_on_error=False, tags=tags)


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


@contextmanager
def _mistakes_shown() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        _stop([str(problem) for problem in error.problems])


def _commits(settings: Settings) -> dict[str, int | None]:
    """Version of each table whose commit may come before a mistake is found."""
    from assets.features.publish import FEATURES
    from assets.raw.ingest import RAW
    from resources.lake import Lake

    return {name: Lake(uri=settings.lake).table(name).version() for name in (RAW, FEATURES)}


def _stop(problems: list[str], committed: Sequence[str] = ()) -> NoReturn:
    noun = "problem" if len(problems) == 1 else "problems"
    changed = f"new in the lake: {', '.join(committed)}; the rest is as it was" if committed else "nothing was changed"
    err.print(f"{len(problems)} {noun} with configuration or input; {changed}:", style="red")
    for problem in problems:
        err.print(f"  - {problem}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(WRONG_INPUT)


def _status(settings: Settings) -> dict[str, Any]:
    from orchestration.status import fleet_status
    from resources.lake import Lake

    return fleet_status(Lake(uri=settings.lake), _mlflow(settings))


def _mlflow(settings: Settings) -> Mlflow:
    from resources.mlflow import Mlflow

    return Mlflow(tracking_uri=settings.tracking_uri, experiment=settings.name)


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
    _print_columns(f"{settings.name}: done", shown)


def _print_columns(title: str, rows: dict[str, Any]) -> None:
    """A line a row, never folded: a path that is cut in two cannot be copied."""
    width = max(map(len, rows))
    out.print(Text(title, style="italic"))
    for name, value in rows.items():
        out.print(Text.assemble((f"{name:<{width}}  ", "bold"), str(value)), soft_wrap=True)
