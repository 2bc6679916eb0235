"""One segment: whether it can be trained, its three fits, and how to know it again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets.models.bucket import SegmentRows
from assets.models.error_sums import Asked, error_sums
from assets.models.fit import fit, predict
from assets.models.line import FAILED, FOLD_FORECAST, TRAINED
from assets.models.packing import model_digest, packed
from assets.raw.recipe import Recipe

Floats = NDArray[np.float64]
FITS = 3  # fold model, judged twin, served model


@dataclass(frozen=True)
class CutOffs:
    """Periods that divide a segment's history: `fold` < `holdout` < `last`, the fleet's last label."""

    fold: int
    holdout: int
    last: int

    @classmethod
    def of(cls, recipe: Recipe, last: int) -> CutOffs:
        """The cut-offs of a recipe whose fleet has its last label at a period."""
        return cls(last - 2 * recipe.holdout, last - recipe.holdout, last)


def why_untrainable(rows: SegmentRows, y: Floats, recipe: Recipe) -> str | None:
    """Why a segment gets no model: nothing labelled, too short before the holdout, or always the same label."""
    if np.isnan(rows.labels).all():
        return "all labels null"
    if len(y) < recipe.minimum_history:
        return "too short"
    return "constant label" if y.min() == y.max() else None


def fit_segment(
    rows: SegmentRows, recipe: Recipe, cut_offs: CutOffs, categorical: list[int], threads: int = 1
) -> dict[str, Any]:
    """Served model, judged twin and the fold model's errors; an exception becomes a status with its reason."""
    started = time.perf_counter()
    try:
        outcome = {"status": TRAINED, **_fits(rows, recipe, cut_offs, categorical, threads)}
    except Exception as error:
        outcome = {"status": FAILED, "reason": f"{type(error).__name__}: {error}"[:500]}
    seconds = time.perf_counter() - started
    return {**outcome, "seconds": seconds, "finished_at": datetime.now(UTC), "threads": threads}


def _fits(rows: SegmentRows, recipe: Recipe, cut_offs: CutOffs, categorical: list[int], threads: int) -> dict[str, Any]:
    judged = fit(*rows.through(cut_offs.holdout), recipe.model, categorical, threads)
    served = fit(*rows.through(cut_offs.last), recipe.model, categorical, threads)
    fold = _fold(rows, recipe, cut_offs, categorical, threads)
    models = {"served": packed(served), "judged": packed(judged)}
    facts: dict[str, Any] = {f"{name}_digest": model_digest(model) for name, model in models.items()}
    facts |= {"trees": served.num_trees(), "bytes": sum(map(len, models.values()))}
    return {"fits": FITS if fold else FITS - 1, **facts, **models, **fold}


def _fold(rows: SegmentRows, recipe: Recipe, cut_offs: CutOffs, categorical: list[int], threads: int) -> dict[str, Any]:
    """What a model trained up to the fold says of it, and its error sums.

    Nothing where the segment has too little before the fold, or no label in it.
    """
    x, y = rows.through(cut_offs.fold)
    inside = rows.between(cut_offs.fold, cut_offs.holdout)
    if why_untrainable(rows, y, recipe) or not inside.any():
        return {}
    model = predict(fit(x, y, recipe.model, categorical, threads), rows.x[inside], recipe.model)
    sums = error_sums(rows.labels[inside], model, "fold_model", Asked.of(recipe.model))
    return {**sums, FOLD_FORECAST: model.tolist()}


def fingerprint(rows: SegmentRows, cut_offs: CutOffs, shared: str) -> str:
    """Digest of the segment's name and all that its models depend on: labelled rows, their cuts, and what all share.

    Equal fingerprints mean equal models, byte for byte: `shared` stands for recipe, parameters and code.
    """
    known = (rows.periods <= cut_offs.last) & ~np.isnan(rows.labels)
    periods = rows.periods[known]
    digest = hashlib.blake2b(f"{shared}\0{rows.key}".encode(), digest_size=16)
    digest.update(np.searchsorted(periods, [cut_offs.fold, cut_offs.holdout], side="right").tobytes())
    for values in (rows.x[known], rows.labels[known]):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def fit_facts(fit: Mapping[str, Any]) -> dict[str, Any]:
    """What a line tells of a fit, without the models themselves."""
    return {name: value for name, value in fit.items() if name not in ("served", "judged", FOLD_FORECAST)}
