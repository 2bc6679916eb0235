"""The incumbent: the fleet that has served until now, as the registry's alias names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from assets.models.store import trainings
from assets.raw.recipe import Recipe
from resources.lake import Lake
from resources.mlflow import CHAMPION, Mlflow
from resources.pruned import refuse_pruned

CHAMPIONS = "champions"


@dataclass(frozen=True)
class Champion:
    """A published fleet: its version and, a row a segment, who serves and where its model lies."""

    version: int
    tags: Mapping[str, str]
    listing: pa.Table

    @property
    def trainings(self) -> list[str]:
        """The trainings its models come from."""
        return sorted(key for key in self.listing["training"].unique().to_pylist() if key)


def published_champion(lake: Lake, mlflow: Mlflow, alias: str = CHAMPION) -> Champion | None:
    """The fleet that the alias `champion` (or another) stands for; None where there is none, as before the first.

    Raises:
        InputError: the alias was moved to a fleet that was pruned.
    """
    tags = mlflow.aliased(alias)
    if tags is None or not lake.table(CHAMPIONS).exists():
        return None
    rows = lake.table(CHAMPIONS).arrow(where=[("published", "=", tags["published"])])
    if not len(rows):
        refuse_pruned(lake, CHAMPIONS, tags["published"], f"{alias} {tags['version']}")
    return Champion(int(tags["version"]), tags, rows.drop_columns(["published"]))


def recipes_of(lake: Lake, champion: Champion) -> list[Recipe]:
    """The recipes that a champion's models were trained by."""
    known = trainings(lake)
    return [known[identity].recipe for identity in champion.trainings if identity in known]


def answers(lake: Lake, champion: Champion, recipe: Recipe) -> bool:
    """Whether a champion answers a recipe's question: same segments, time, label, frequency, and rows held out."""
    return all(
        (theirs.problem_digest, theirs.split_by) == (recipe.problem_digest, recipe.split_by)
        for theirs in recipes_of(lake, champion)
    )
