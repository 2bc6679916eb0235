"""`fleet backtest`: errors at past origins, of every candidate and of what would have been served."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.text import Text

from orchestration.run_job import run_job
from orchestration.terminal import DEFAULT_CONFIG, Config, mistakes_shown, out, settings_of
from resources.problems import InputError, Problem


def backtest(
    config: Config = DEFAULT_CONFIG,
    origins: Annotated[int, typer.Option(min=1, max=52, help="How many of the last origins, a holdout apart.")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Does at past origins what a run would have done then, and shows how wrong it would have been."""
    with mistakes_shown():
        settings = settings_of(config)
        if settings.time is None:
            raise InputError([Problem("fleet.yaml time", "is not named: there are no past origins", "name the column")])
        from assets.evaluation.backtest_asset import BACKTEST, RECORD
        from assets.features.publish import FEATURES
        from resources.lake import Lake

        lake = Lake(uri=settings.lake)
        if not lake.table(FEATURES).exists():
            raise InputError([Problem(f"fleet {settings.name}", "has no data yet", "run the weekly cycle: fleet run")])
        run_job(settings, BACKTEST, {BACKTEST: {"origins": origins}})
        record: dict[str, Any] = json.loads(lake.read_file(RECORD) or b"{}")
    if as_json:
        print(json.dumps(record, ensure_ascii=False))
        return
    from assets.evaluation.backtest_summary import candidate_table, horizon_table, origin_table

    for frame in (origin_table(record), candidate_table(record), horizon_table(record)):
        out.print(Text(frame.to_string(index=False, float_format="{:.4f}".format, na_rep="")), soft_wrap=True)
        out.print()
