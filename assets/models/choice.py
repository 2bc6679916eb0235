"""Who serves a segment: its own model, the fleet-wide one or the baseline, chosen on the fold before the holdout."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assets.models.error_sums import LOSSES
from assets.models.line import BASELINE, FLEET_MODEL, FOLD_CANDIDATES, SEGMENT_MODEL, TRAINED

Floats = NDArray[np.float64]
CANDIDATES = (BASELINE, SEGMENT_MODEL, FLEET_MODEL)  # the first wins a tie
# how many folds of its own a segment's error is worth less than the fleet's; measured: docs/benchmarks.md
SHRINKAGE = 1.0


def chosen(lines: pa.Table, metric: str) -> pa.Array:
    """For each line the candidate that serves the segment.

    One fold of one segment is noisy, so each candidate's error there is shrunk towards what the candidate's error is,
    as a share of the baseline's, over all segments of its kind (those with a model judged on the fold, and the rest):
    `error + SHRINKAGE x baseline's error x share`. The smallest wins. Linear shrinkage towards the pooled mean, as in
    Efron & Morris, "Data analysis using Stein's estimator", JASA 70 (1975).
    """
    errors = _errors(lines, metric)
    trained = lines["status"].to_numpy(zero_copy_only=False) == TRAINED
    own = trained & np.isfinite(errors[SEGMENT_MODEL])
    names = np.full(len(lines), BASELINE, dtype=object)
    for group in (own, ~own):
        shares = _shares(errors, group if _has_errors(errors, group) else np.ones(len(lines), dtype=bool))
        if not own[group].any():
            shares[SEGMENT_MODEL] = np.inf
        names[group] = _smallest({name: error[group] for name, error in errors.items()}, shares)
    return pa.array(names, pa.string())


def serves_unproven(lines: pa.Table, metric: str) -> str:
    """Who serves a segment that no line is about: the fleet-wide model where it beats the baseline in total."""
    errors = _errors(lines, metric)
    everyone = np.ones(len(lines), dtype=bool)
    return FLEET_MODEL if _shares(errors, everyone)[FLEET_MODEL] < 1 else BASELINE


def _errors(lines: pa.Table, metric: str) -> dict[str, Floats]:
    loss = LOSSES[metric]
    return {name: _floats(lines[f"{FOLD_CANDIDATES[name]}_{loss}"]) for name in CANDIDATES}


def _smallest(errors: dict[str, Floats], shares: dict[str, float]) -> NDArray[np.object_]:
    unjudged = ~np.isfinite(errors[BASELINE])
    scale = np.where(unjudged, 1.0, errors[BASELINE])
    scores = []
    for name in CANDIDATES:
        own = np.where(unjudged, 0.0, errors[name])
        score = own + SHRINKAGE * scale * shares[name] if np.isfinite(shares[name]) else np.full(len(own), np.inf)
        scores.append(np.where(np.isfinite(score), score, np.inf))
    return np.array(CANDIDATES, dtype=object)[np.argmin(scores, axis=0)]


def _shares(errors: dict[str, Floats], group: NDArray[np.bool_]) -> dict[str, float]:
    """Each candidate's total error as a share of the baseline's on the same segments; infinite where it has none."""
    shares = {}
    for name, error in errors.items():
        both = group & np.isfinite(error) & np.isfinite(errors[BASELINE])
        total = errors[BASELINE][both].sum()
        shares[name] = float(error[both].sum() / total) if total > 0 else (1.0 if name == BASELINE else np.inf)
    return shares


def _has_errors(errors: dict[str, Floats], group: NDArray[np.bool_]) -> bool:
    return bool((group & (np.nan_to_num(errors[BASELINE]) > 0)).any())


def _floats(column: pa.ChunkedArray) -> Floats:
    return column.to_numpy(zero_copy_only=False).astype(np.float64)
