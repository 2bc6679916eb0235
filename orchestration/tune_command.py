"""`fleet tune`: parameters searched for the fleet, which the next training uses."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.text import Text

from orchestration.run_job import run_job
from orchestration.terminal import DEFAULT_CONFIG, Config, mistakes_shown, out, settings_of
from resources.problems import InputError, Problem


def tune(
    config: Config = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Searches parameters on a sample of segments, before the holdout; the next run trains with what is better."""
    with mistakes_shown():
        settings = settings_of(config)
        from assets.features.publish import FEATURES, current_features
        from assets.models.tuning.asset import TUNING
        from assets.models.tuning.fleet_search import why_not_searched
        from assets.raw.tuned import kept_choice
        from resources.lake import Lake

        lake = Lake(uri=settings.lake)
        if not lake.table(FEATURES).exists():
            raise InputError([Problem(f"fleet {settings.name}", "has no data yet", "run the weekly cycle: fleet run")])
        if why := why_not_searched(current_features(lake), settings):
            raise InputError([Problem("fleet tune", why, "raise tuning.budget; up to 1000% can be asked for")])
        before = kept_choice(lake)
        run_job(settings, TUNING, {})
        record: dict[str, Any] = kept_choice(lake)
    if as_json:
        print(json.dumps(record, ensure_ascii=False))
        return
    from assets.models.tuning.summary import class_table, search_said

    if record == before:
        out.print("Nothing was searched: see the run's log.")
        return
    out.print(Text(class_table(record).to_string(index=False, float_format="{:.4f}".format)), soft_wrap=True)
    out.print(Text(search_said(record)), soft_wrap=True)
