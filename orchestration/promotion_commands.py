"""Commands of `fleet` by which a person decides who serves: promote, reject, rollback, unpin; and what was decided."""

from __future__ import annotations

import getpass
import json
from typing import Annotated, Any

import typer
from rich.text import Text

from orchestration.run_job import run_job
from orchestration.terminal import DEFAULT_CONFIG, Config, mistakes_shown, mlflow_of, out, print_columns, settings_of

Version = Annotated[int, typer.Argument(help="The version's number, as `fleet versions` lists it.")]
By = Annotated[str | None, typer.Option(help="Who decides; by default who is logged in.")]
Note = Annotated[str, typer.Option(help="Why.")]
Segments = Annotated[list[str] | None, typer.Option("--segment", help='Just this one, such as "a|b"; repeatable.')]


def promote(version: Version, config: Config = DEFAULT_CONFIG, by: By = None, note: Note = "") -> None:
    """Approves the version that waits: it serves from now on, and forecasts follow."""
    _decide(config, "approve_promotion", {"action": "APPROVE", "version": version}, by, note)


def reject(version: Version, config: Config = DEFAULT_CONFIG, by: By = None, note: Note = "") -> None:
    """Refuses the version that waits; what serves goes on serving."""
    _decide(config, "approve_promotion", {"action": "REJECT", "version": version}, by, note)


def rollback(
    config: Config = DEFAULT_CONFIG,
    to: Annotated[int | None, typer.Option(help="The version to serve again; by default the one before.")] = None,
    segment: Segments = None,
    pin_until: Annotated[
        str | None, typer.Option(help="Keep these segments there until this day, such as 2030-01-31.")
    ] = None,
    by: By = None,
    note: Note = "",
) -> None:
    """Lets an earlier version serve again, whole or for some segments; forecasts follow."""
    given = {"action": "ROLLBACK", "version": to, "segments": segment or [], "pin_until": pin_until}
    _decide(config, "rollback", given, by, note)


def unpin(segment: Segments = None, config: Config = DEFAULT_CONFIG, by: By = None, note: Note = "") -> None:
    """Lets pinned segments follow the weekly cycle again."""
    _decide(config, "rollback", {"action": "UNPIN", "segments": segment or []}, by, note)


def versions(
    config: Config = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Lists the newest registered versions: which serves, which waits, who decided, when and why."""
    with mistakes_shown():
        settings = settings_of(config)
        from assets.champions.history import versions_table

        found = versions_table(mlflow_of(settings))
    if as_json:
        print(json.dumps(found.to_dict("records"), ensure_ascii=False))
    else:
        out.print(Text(found.to_string(index=False) if len(found) else "none yet: fleet run"), soft_wrap=True)


def _decide(config: Config, job: str, given: dict[str, Any], by: str | None, note: str) -> None:
    with mistakes_shown():
        settings = settings_of(config)
        from assets.evaluation.incumbent import CHAMPIONS, published_champion
        from resources.lake import Lake

        word = {"by": getpass.getuser() if by is None else by, "note": note}
        run_job(
            settings, job, {CHAMPIONS: {name: value for name, value in (given | word).items() if value is not None}}
        )
        serving = published_champion(Lake(uri=settings.lake), mlflow_of(settings))
    shown = {"serves": f"version {serving.version}" if serving else "none: the baseline serves"}
    print_columns(f"{settings.name}: done", shown)
