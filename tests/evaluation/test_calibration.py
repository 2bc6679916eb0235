"""Calibration: bins of probabilities counted by hand, together over segments."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from assets.evaluation.calibration import calibration_error, calibration_sums, reliability
from assets.evaluation.calibration_summary import calibration_plot, calibration_table
from assets.presentation import png


def segments(count: int = 7) -> list[tuple[np.ndarray, np.ndarray]]:
    """Labels that come less often than is said, and probabilities at the edges of bins."""
    draw = np.random.default_rng(0)
    found = []
    for _ in range(count):
        said = np.concatenate([draw.beta(2, 3, 50), [0.0, 0.1, 0.3, 0.9, 1.0]])
        found.append(((draw.random(len(said)) < said**2).astype(float), said))
    return found


def column(made: list[tuple[np.ndarray, np.ndarray]]) -> pa.ChunkedArray:
    return pa.chunked_array([[calibration_sums(*each) for each in made], [None]], pa.binary())


def test_bins_are_those_counted_by_hand() -> None:
    made = segments()
    frame = pd.DataFrame({
        "came": np.concatenate([came for came, _ in made]), "said": np.concatenate([said for _, said in made]),
    })  # fmt: skip
    frame["bin"] = np.minimum((frame["said"] * 10).astype(int), 9)
    wanted = frame.groupby("bin").agg(rows=("said", "size"), predicted=("said", "mean"), observed=("came", "mean"))
    found = calibration_table(reliability(column(made)))
    np.testing.assert_allclose(found["from"], wanted.index / 10)
    np.testing.assert_array_equal(found["rows"], wanted["rows"])
    np.testing.assert_allclose(found[["predicted", "observed"]], wanted[["predicted", "observed"]])
    error = (wanted["rows"] * (wanted["predicted"] - wanted["observed"]).abs()).sum() / len(frame)
    assert calibration_error(reliability(column(made))) == pytest.approx(error)


def test_empty_bins_are_left_out_and_nothing_is_no_error() -> None:
    only = reliability(pa.chunked_array([[calibration_sums(np.array([1.0, 0.0]), np.array([0.55, 0.57]))]]))
    assert [(each["from"], each["rows"], each["observed"]) for each in only] == [(0.5, 2, 0.5)]
    nothing = reliability(pa.chunked_array([[None]], pa.binary()))
    assert nothing == []
    assert calibration_error(nothing) is None


def test_a_forecast_that_is_no_number_is_not_counted() -> None:
    (one,) = reliability(pa.chunked_array([[calibration_sums(np.array([1.0, 0.0]), np.array([0.2, np.nan]))]]))
    assert (one["rows"], one["observed"]) == (1, 1)


def test_the_plot_is_drawn() -> None:
    assert len(png(calibration_plot(reliability(column(segments()))))) > 1_000
