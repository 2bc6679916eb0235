"""`fleet explain`: the features that the model which serves a segment goes by."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.text import Text

from orchestration.terminal import DEFAULT_CONFIG, Config, mistakes_shown, out, print_columns, settings_of

SOURCES = {"segment": "its own model", "fleet": "the fleet-wide model"}


def explain(
    segment: Annotated[str, typer.Argument(help='A segment of the champion, such as "a|b".')],
    config: Config = DEFAULT_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Shows the features that the model which serves a segment goes by, with their shares of its SHAP values."""
    with mistakes_shown():
        settings = settings_of(config)
        from assets.explanations.summary import segment_explanation
        from resources.lake import Lake

        found = segment_explanation(Lake(uri=settings.lake), settings.name, segment)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    facts = {"segment": segment, "champion": f"version {found['version']}"}
    if found["reason"]:
        print_columns(f"{settings.name}: not explained", {**facts, "reason": found["reason"]})
        return
    by = f"{SOURCES[found['source']]}, which has {found['weight']:.0%} of the forecast"
    print_columns(
        f"{settings.name}: what the forecast goes by",
        {**facts, "explained by": by, "rows": f"the newest {found['rows']}"},
    )
    width = max(len(each["feature"]) for each in found["features"])
    for each in found["features"]:
        line = f"{each['rank']}  {each['feature']:<{width}}  {each['share']:>6.1%}  {each['direction']}"
        out.print(Text(line.rstrip()), soft_wrap=True)
