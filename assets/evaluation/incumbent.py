"""The incumbent: the fleet that has served until now, as the registry's alias names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from assets.features.publish import FeatureSet
from assets.models.store import Training, trainings
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


def clean_after(champion: Champion, known: Mapping[str, Training]) -> int | None:
    """The last period that anything about a champion can have been chosen by: the last label known to its trainings."""
    seen = [known[key].record["trained_through"] for key in champion.trainings if key in known]
    listed = [pc.max(champion.listing[name]).as_py() for name in ("trained_through", "selected_through")]
    return max((period for period in [*seen, *listed] if period is not None), default=None)


@dataclass(frozen=True)
class Incumbent:
    """The fleet that serves, if it can be compared at all: on the whole holdout, or why not, and on rows `after`."""

    champion: Champion | None
    why_not: str | None = None
    selected_through: int | None = None
    after: int = 0

    @property
    def on_holdout(self) -> Champion | None:
        """The fleet, where no row of the holdout trained its twins."""
        return None if self.why_not else self.champion


def incumbent_for(lake: Lake, features: FeatureSet, recipe: Recipe, champion: Champion | None) -> Incumbent:
    """The incumbent, and which rows are clean for it: those after all that its models or its promotion were chosen by.

    Rows without time have no order, so that none is known to be later: they are compared on the holdout itself.
    """
    if champion is None:
        return Incumbent(None, "no fleet served before")
    if not answers(lake, champion, recipe):
        return Incumbent(
            None, "it answers another question: segment, time, label, frequency or the rows held out changed"
        )
    if any(theirs.horizon < recipe.horizon for theirs in recipes_of(lake, champion)):
        return Incumbent(None, "it forecasts fewer periods ahead, from labels that are not known yet at this horizon")
    holdout_from = features.profile.last_period - recipe.holdout
    cut_offs = [pc.max(champion.listing[name]).as_py() for name in ("judged_through", "selected_through")]
    trained = max((cut_off for cut_off in cut_offs if cut_off is not None), default=holdout_from)
    seen = trained > holdout_from
    why_not = "its twins were trained or selected on rows of this holdout" if seen else None
    selected = clean_after(champion, trainings(lake)) if recipe.time else trained
    after = max(holdout_from, trained, holdout_from if selected is None else selected)
    return Incumbent(champion, why_not, selected, after)
