"""What all commands share: where they print, their exit codes, and how a mistake of the user's is told."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from resources.problems import InputError
from resources.settings import CONFIG_VARIABLE, Settings, read_settings

if TYPE_CHECKING:
    from resources.mlflow import Mlflow

FAILED, WRONG_INPUT = 1, 2
Config = Annotated[Path, typer.Option("--config", "-c", help="The fleet.yaml to use.")]
DEFAULT_CONFIG = Path("fleet.yaml")

out, err = Console(), Console(stderr=True)


@contextmanager
def mistakes_shown() -> Iterator[None]:
    """Tells an InputError of the `with` block line by line, and exits with WRONG_INPUT."""
    try:
        yield
    except InputError as error:
        stop([str(problem) for problem in error.problems])


def stop(problems: list[str], committed: Sequence[str] = ()) -> NoReturn:
    """Lists problems and what was committed before they were found, and exits with WRONG_INPUT."""
    noun = "problem" if len(problems) == 1 else "problems"
    changed = f"new in the lake: {', '.join(committed)}; the rest is as it was" if committed else "nothing was changed"
    err.print(f"{len(problems)} {noun} with configuration or input; {changed}:", style="red")
    for problem in problems:
        err.print(f"  - {problem}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(WRONG_INPUT)


def settings_of(config: Path) -> Settings:
    """The settings of a fleet.yaml, which the definitions are then loaded from as well."""
    settings = read_settings(config)
    os.environ[CONFIG_VARIABLE] = str(config.resolve())
    if settings.dagster.home:
        from orchestration.deployment.home import home_of

        os.environ["DAGSTER_HOME"] = home_of(settings.dagster)
    return settings


def mlflow_of(settings: Settings) -> Mlflow:
    """The MLflow of a fleet."""
    from resources.mlflow import Mlflow

    return Mlflow(tracking_uri=settings.tracking_uri, experiment=settings.name)


def print_columns(title: str, rows: dict[str, Any]) -> None:
    """A line a row, never folded: a path that is cut in two cannot be copied."""
    width = max(map(len, rows))
    out.print(Text(title, style="italic"))
    for name, value in rows.items():
        out.print(Text.assemble((f"{name:<{width}}  ", "bold"), str(value)), soft_wrap=True)
