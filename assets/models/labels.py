"""Labels that an objective cannot have, found before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable

from assets.raw.recipe import Recipe
from resources.frames import frame_of
from resources.problems import InputError, Problem
from resources.spark import Spark, quoted


def refuse_impossible_labels(spark: Spark, files: Iterable[str], recipe: Recipe) -> None:
    """Reads the labels of a `binary` fleet once.

    Raises:
        InputError: some are neither 0 nor 1.
    """
    if recipe.model["objective"] != "binary":
        return
    label = quoted(recipe.label)
    known = f"{label} is not null and not isnan({label})"
    frame = frame_of(spark.session(), [*files], columns=[recipe.label]).where(known)
    other = frame.where(f"{label} not in (0, 1)").selectExpr("count(*)", f"min({label})", f"max({label})").first()
    if other and other[0]:
        what = (
            f"binary predicts how likely a 1 is, but {other[0]:,} labels of column {recipe.label!r} are neither 0 nor 1"
            f" (from {other[1]:g} to {other[2]:g})"
        )
        remedy = "make the label 0 and 1, or choose another objective such as regression"
        raise InputError([Problem("fleet.yaml model.objective", what, remedy)])
