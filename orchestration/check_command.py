"""`fleet check`: asset checks as the gate, on a fleet's data as they are or on a fixed table, for people and for CI."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from orchestration.checks.results import FAILED as CHECK_FAILED
from orchestration.checks.results import PASSED, WARNS, CheckResult
from orchestration.terminal import DEFAULT_CONFIG, FAILED, Config, err, mistakes_shown, out, settings_of
from resources.problems import InputError, Problem

if TYPE_CHECKING:
    from orchestration.checks.accepted import Accepted
    from resources.settings import Settings

COLOURS = {PASSED: "green", WARNS: "yellow", CHECK_FAILED: "red"}
File = Path | None


def check(
    config: Config = DEFAULT_CONFIG,
    select: Annotated[
        str, typer.Option(help='Assets to check, in Dagster\'s words: "key:shop/features", "tag:stage=evaluation".')
    ] = "*",
    only: Annotated[list[str] | None, typer.Option("--check", help="Just this check; repeatable.")] = None,
    severity: Annotated[
        str, typer.Option(help="Show what passed and warns too (all), or what failed (error).")
    ] = "all",
    table: Annotated[
        str | None, typer.Option(help="Run the weekly cycle on this fixed table first: a file, or `demo`.")
    ] = None,
    accept: Annotated[bool, typer.Option(help="Write what is found on the fixed table to checks.lock.json.")] = False,
    junit: Annotated[File, typer.Option(help="Write JUnit's XML here.")] = None,
    markdown: Annotated[File, typer.Option(help="Write a page for a job's summary here.")] = None,
    json_file: Annotated[File, typer.Option("--json", help="Write JSON here.")] = None,
) -> None:
    """Runs asset checks; exits with 1 if one of severity error fails, or if accuracy is worse than accepted."""
    with mistakes_shown():
        if severity not in ("all", "error"):
            raise InputError([Problem(f"--severity {severity}", "is neither all nor error", "say one of them")])
        if table is None and accept:
            raise InputError(
                [Problem("--accept", "is about a fixed table", "name it with --table, or say --table demo")]
            )
        problems: list[str] = []
        notes: list[str] = []
        if table is None:
            settings = settings_of(config)
            results = _on_todays_data(settings, select, only)
        else:
            results, problems, notes = _on_a_fixed_table(config, table, select, only, accept=accept)
    title = f"fleet check: {config}" + (f" on {table}" if table else "")
    shown = [each for each in results if severity == "all" or each.outcome == CHECK_FAILED]
    _print(title, shown, problems, notes)
    _write(title, results, problems, notes, {junit: "junit", markdown: "markdown", json_file: "json"})
    if problems or any(each.outcome == CHECK_FAILED for each in results):
        raise typer.Exit(FAILED)


def _on_todays_data(settings: Settings, select: str, only: Sequence[str] | None) -> list[CheckResult]:
    from assets.raw.snapshot import RAW
    from orchestration.jobs import CHECK
    from orchestration.run_job import checked
    from resources.lake import Lake

    if not Lake(uri=settings.lake).table(RAW).exists():
        raise InputError([Problem(f"fleet {settings.name}", "has no data yet", "run the weekly cycle: fleet run")])
    return checked(settings, CHECK, select, only)


def _on_a_fixed_table(
    config: Path, table: str, select: str, only: Sequence[str] | None, *, accept: bool
) -> tuple[list[CheckResult], list[str], list[str]]:
    """Results of the weekly cycle's checks, what is worse than accepted, and what else is to be said."""
    from assets.evaluation.judge import latest_evaluation
    from orchestration.checks.accepted import LOCK, found_now, read_accepted, write_accepted
    from orchestration.checks.fixed_table import on_fixed_table
    from orchestration.jobs import WEEKLY_CYCLE
    from orchestration.run_job import checked
    from resources.lake import Lake

    settings_of(config)  # its mistakes are those of the file that the user wrote
    lock = config.resolve().with_name(LOCK)
    before = read_accepted(lock)
    with on_fixed_table(config, table) as fixed:
        settings = settings_of(fixed.config)
        with fixed.a_week_before(settings) as has_one:
            if has_one:  # so that the gate has an incumbent to judge in what follows
                checked(settings, WEEKLY_CYCLE, select, only)
        results = checked(settings, WEEKLY_CYCLE, select, only)
        evaluation = latest_evaluation(Lake(uri=settings.lake))
    if evaluation is None or only or select != "*":
        return results, [], ["some checks only: nothing was compared with what was accepted"]
    now = found_now(fixed.digest, evaluation.record, [each.name for each in results], before)
    if accept:
        write_accepted(lock, now)
        return results, [], [f"accepted: {lock}"]
    return results, *_compared(before, now)


def _compared(before: Accepted | None, now: Accepted) -> tuple[list[str], list[str]]:
    from orchestration.checks.accepted import LOCK, better_than_accepted, worse_than_accepted

    said = [f"{now.metric} of {who}: {error:.4f}" for who, error in now.errors.items()]
    if before is None:
        return [], [*said, f"nothing was accepted before: --accept writes {LOCK}"]
    better = [f"{each} (--accept)" for each in better_than_accepted(before, now)]
    return worse_than_accepted(before, now), [*said, *better]


def _print(title: str, results: Sequence[CheckResult], problems: Sequence[str], notes: Sequence[str]) -> None:
    out.print(Text(title, style="italic"))
    width = max((len(each.name) for each in results), default=0)
    for each in results:
        said = "" if each.outcome == PASSED else each.said
        line = Text.assemble((f"{each.outcome:<7}", COLOURS[each.outcome]), f" {each.name:<{width}}  {said}")
        out.print(line, soft_wrap=True)
    for note in notes:
        out.print(Text(note), soft_wrap=True)
    for problem in problems:
        err.print(Text(f"worse than accepted: {problem}", style="red"), soft_wrap=True)


def _write(
    title: str,
    results: Sequence[CheckResult],
    problems: Sequence[str],
    notes: Sequence[str],
    wanted: dict[File, str],
) -> None:
    from orchestration.checks.results import as_json, as_junit, as_markdown

    facts: dict[str, Any] = {"title": title, "worse than accepted": list(problems), "notes": list(notes)}
    made = {
        "junit": lambda: as_junit(title, results, problems),
        "markdown": lambda: as_markdown(title, results, [*(f"❌ {each}" for each in problems), *notes]),
        "json": lambda: as_json(results, facts),
    }
    for file, kind in wanted.items():
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(made[kind](), encoding="utf-8")
