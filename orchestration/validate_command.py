"""`fleet validate`: whether a fleet.yaml and the table it names can be used, and what is derived from the table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestration.terminal import DEFAULT_CONFIG, Config, mistakes_shown, print_columns, settings_of
from resources.environment import lacks, strings_of, unresolved
from resources.problems import InputError, Problem
from resources.settings import Settings, settings_as_written
from resources.targets import TARGETS, target_names

if TYPE_CHECKING:
    from assets.raw.profile import Profile
    from assets.raw.recipe import Recipe

# sections whose texts are resolved when they are used
REFERRING = ("source", "mlflow", "dagster", "spark")


def validate(
    config: Config = DEFAULT_CONFIG,
    all_targets: Annotated[
        bool, typer.Option("--all-targets", help="Check what fleet.yaml says for every target; no table is read.")
    ] = False,
) -> None:
    """Checks fleet.yaml and the table it names, lists every problem, and shows the settings derived from the data."""
    with mistakes_shown():
        if all_targets:
            print_columns("valid", _of_all_targets(config))
            return
        settings = settings_of(config)
        derived = validated(settings)
    print_columns(f"{settings.name}: valid", derived)


def validated(settings: Settings) -> dict[str, Any]:
    """What is derived from the table that the settings name.

    Raises:
        InputError: the table cannot be used with these settings, or the environment lacks what they refer to.
    """
    refuse_unusable(settings)
    from assets.raw.fetch import source_files, within_reach
    from assets.raw.inspect import inspect_frame
    from assets.raw.read import read_source, under_own_names, unreadable
    from assets.raw.text_files import refuse_unreadable_text
    from resources.spark import Spark, spark_errors

    spark = Spark.of(settings)
    session = spark.session()
    with source_files(settings) as files, within_reach(session, files) as near:
        refuse_unreadable_text(near, settings)
        source = read_source(session, near, settings)
        try:
            profile, recipe, _ = inspect_frame(spark, under_own_names(source, settings.contract), settings, aside=True)
        except spark_errors() as error:
            raise unreadable(settings, error) from None
    return _derived(profile, recipe)


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


def refuse_unusable(settings: Settings) -> None:
    """Looks whether LightGBM takes the parameters, and the environment has what the settings refer to.

    Raises:
        InputError: it does not; all problems.
    """
    texts = strings_of(settings.model_dump(include=set(REFERRING)))
    problems = [lacks(name, f"fleet.yaml {key}") for key, text in texts for name in unresolved(text)]
    if settings.model.params:
        from assets.models.fit import parameter_problems

        problems += parameter_problems(settings.model.model_dump())
    if problems:
        raise InputError(problems)


def _of_all_targets(config: Path) -> dict[str, str]:
    """Lake and schedule of the plain fleet.yaml and of each target."""
    from resources.document import read_document

    found: dict[str, str] = {}
    problems: list[Problem] = []
    for target in (None, *target_names(read_document(config.resolve())[0])):
        try:
            settings = settings_as_written(config.resolve(), target)
        except InputError as error:
            problems += error.problems
            continue
        runs = f"at {settings.schedule.cron}" if settings.schedule.enabled else "when asked"
        found[f"{TARGETS}.{target}" if target else "without a target"] = (
            f"{settings.name} in {settings.lake}, runs {runs}"
        )
    if problems:
        raise InputError(dict.fromkeys(problems))
    return found
