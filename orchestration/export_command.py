"""The command that writes the champion to a folder that needs nothing else of this project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from orchestration.terminal import DEFAULT_CONFIG, Config, mistakes_shown, mlflow_of, out, settings_of


def export(
    folder: Annotated[Path, typer.Option("--out", help="A folder that is not there yet, or empty.")],
    config: Config = DEFAULT_CONFIG,
    segments: Annotated[
        list[str] | None,
        typer.Option("--segments", "--segment", help='Just this one, such as "a|b"; repeatable. By default all.'),
    ] = None,
    text: Annotated[bool, typer.Option(help="Write each booster in LightGBM's own text format as well.")] = False,
) -> None:
    """Writes the champion as an MLflow model that is whole by itself: no lake, no Spark, nothing pickled."""
    with mistakes_shown():
        settings = settings_of(config)
        from assets.champions.export import export_fleet
        from assets.evaluation.incumbent import published_champion
        from resources.lake import Lake

        lake = Lake(uri=settings.lake)
        champion = published_champion(lake, mlflow_of(settings))
        written = export_fleet(lake, champion, folder, segments or (), text=text)
    said = f"{written.segments:,} segments, {written.models:,} models, {written.rows:,} rows of features"
    texts = f"; {written.texts:,} boosters as text in {written.folder}/boosters" if text else ""
    out.print(Text(f"{settings.name}: {said}; written to {written.folder}{texts}"), soft_wrap=True)
    out.print(Text(f"serve it anywhere: mlflow models serve -m {written.folder}"), soft_wrap=True)
