"""Stretches of periods that some candidates have not seen: what each of them says of a segment's rows there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assets.models.baseline import baseline_forecasts, origins_of
from assets.models.blend import blend_losses
from assets.models.bucket import Bucket, SegmentRows
from assets.models.error_sums import LOSSES, Asked, error_sums, label_scales
from assets.models.line import FLEET_MODEL, FOLD_CANDIDATES
from assets.raw.recipe import Recipe

if TYPE_CHECKING:
    from assets.models.fleet_model import FleetModel

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fold:
    """A segment's labelled rows after one period and up to another, and what each candidate says of them."""

    periods: NDArray[np.int64]
    labels: Floats
    candidates: Mapping[str, Floats]

    def also(self, candidate: str, forecast: Sequence[float] | Floats | None) -> Fold:
        """The fold with one candidate more; without a forecast as it is."""
        if forecast is None:
            return self
        return Fold(self.periods, self.labels, {**self.candidates, candidate: np.asarray(forecast)})

    def part(self, rows: NDArray[np.bool_]) -> Fold:
        """Some of its rows."""
        return Fold(self.periods[rows], self.labels[rows], {n: said[rows] for n, said in self.candidates.items()})


def folds_between(
    bucket: Bucket, wanted: Sequence[SegmentRows], recipe: Recipe, after: int, through: int, fleet: FleetModel | None
) -> list[Fold]:
    """The fold of each segment by the baselines and, all predicted at once, by a fleet-wide model."""
    insides = [rows.between(after, through) for rows in wanted]
    folds = [_by_baselines(rows, inside, recipe, after) for rows, inside in zip(wanted, insides, strict=True)]
    if fleet is None:
        return folds
    places = [rows.first_row + np.flatnonzero(inside) for rows, inside in zip(wanted, insides, strict=True)]
    everywhere: NDArray[np.int64] = np.concatenate([*places, np.empty(0, dtype=np.int64)]).astype(np.int64)
    ends: NDArray[np.int64] = np.cumsum([len(own) for own in places])[:-1]
    predicted = np.split(fleet.predict(bucket, everywhere, recipe), ends)
    return [fold.also(FLEET_MODEL, said) for fold, said in zip(folds, predicted, strict=False)]


def _by_baselines(rows: SegmentRows, inside: NDArray[np.bool_], recipe: Recipe, after: int) -> Fold:
    targets, labels = rows.periods[inside], rows.labels[inside]
    origins = origins_of(targets, after, recipe.horizon)
    known = rows.periods <= (origins.max() if len(origins) else after)
    return Fold(targets, labels, baseline_forecasts(recipe, rows.periods[known], rows.labels[known], targets, origins))


def fold_errors(fold: Fold, recipe: Recipe) -> dict[str, Any]:
    """Rows, labels, and the error sums of the candidates on a segment's fold before the holdout."""
    if not len(fold.labels):
        return {"fold_count": 0}
    asked = Asked.of(recipe.model)
    found: dict[str, Any] = {f"fold_{name}": value for name, value in label_scales(fold.labels, asked).items()}
    for name, forecast in fold.candidates.items():
        found |= error_sums(fold.labels, forecast, FOLD_CANDIDATES[name], asked)
    return found


def fold_blends(fold: Fold, recipe: Recipe) -> bytes | None:
    """The loss of each blend of the candidates on a fold; None without a labelled row."""
    if not len(fold.labels):
        return None
    return blend_losses(fold.labels, fold.candidates, LOSSES[recipe.metric], Asked.of(recipe.model))
