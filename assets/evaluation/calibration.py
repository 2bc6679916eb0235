"""Calibration of probabilities: how often a 1 came where it was said to be so likely, from sums that workers give."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 10


def calibration_sums(labels: Floats, probabilities: Floats) -> bytes:
    """Of rows by probability, in ten equal bins of 0 to 1: how many, sum of probabilities, ones; as float64."""
    known = np.isfinite(probabilities)
    said, came = probabilities[known], labels[known]
    places = np.clip((said * BINS).astype(np.int64), 0, BINS - 1)
    sums = [np.bincount(places, weights=each, minlength=BINS) for each in (np.ones(len(said)), said, came)]
    return np.stack(sums).astype(np.float64).tobytes()


def reliability(column: pa.ChunkedArray) -> list[dict[str, float]]:
    """What `calibration_sums` gave for each segment, all together: a bin's rows, mean probability and share of ones.

    The reliability curve: Murphy & Winkler, Applied Statistics 26, 1977. Empty bins are left out.
    """
    packed = b"".join(column.drop_null().to_pylist())
    rows, said, came = np.frombuffer(packed).reshape(-1, 3, BINS).sum(axis=0).tolist()
    return [
        {"from": at / BINS, "rows": rows[at], "predicted": said[at] / rows[at], "observed": came[at] / rows[at]}
        for at in range(BINS)
        if rows[at]
    ]


def calibration_error(bins: list[dict[str, float]]) -> float | None:
    """Mean distance of predicted and observed, by rows; None without a row.

    The expected calibration error: Naeini, Cooper & Hauskrecht, AAAI 2015.
    """
    rows = sum(each["rows"] for each in bins)
    return sum(each["rows"] * abs(each["predicted"] - each["observed"]) for each in bins) / rows if rows else None
