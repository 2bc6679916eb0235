"""Metrics from sums, against each worked out by hand; sums of parts are those of the whole."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from assets.models.baseline import known_rate
from assets.models.error_sums import (
    METRICS,
    SCALES,
    SUMS,
    Asked,
    discordant_pairs,
    error_sums,
    label_scales,
    metric_of,
    totals,
    undefined,
)

DRAW = np.random.default_rng(0)
LABELS = np.array([3.0, 0.0, -2.0, 8.0, 5.0])
FORECAST = np.array([4.0, 1.0, -2.5, 6.0, 5.0])
OUTCOMES = (DRAW.random(60) < 0.3).astype(float)
CHANCES = np.clip(0.3 * OUTCOMES + DRAW.uniform(0, 0.7, 60), 0, 1).round(1)  # with ties
QUANTILE = Asked(level=0.8)
BINARY = Asked(binary=True)


def sums(labels: np.ndarray, forecast: np.ndarray, asked: Asked) -> dict[str, float | None]:
    return {**label_scales(labels, asked), **error_sums(labels, forecast, "x", asked)}


def by_hand(metric: str, labels: np.ndarray, forecast: np.ndarray) -> float:
    error = forecast - labels
    if metric == "auc":
        pairs = [(a, b) for a in forecast[labels == 1] for b in forecast[labels == 0]]
        return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)
    known = labels != 0
    return {
        "wape": lambda: np.abs(error).sum() / np.abs(labels).sum(),
        "bias": lambda: error.sum() / np.abs(labels).sum(),
        "mae": lambda: np.abs(error).mean(),
        "rmse": lambda: np.sqrt((error**2).mean()),
        "rmspe": lambda: np.sqrt(((error[known] / labels[known]) ** 2).mean()),
        "pinball": lambda: np.mean([0.8 * -e if e < 0 else 0.2 * e for e in error]),
        "log_loss": lambda: -np.mean(np.log(np.where(labels == 1, forecast, 1 - forecast).clip(1e-15))),
    }[metric]()


@pytest.mark.parametrize("metric", ["wape", "bias", "mae", "rmse", "rmspe", "pinball"])
def test_metrics_of_numbers(metric: str) -> None:
    found = metric_of(metric, sums(LABELS, FORECAST, QUANTILE), "x")
    assert found == pytest.approx(by_hand(metric, LABELS, FORECAST), rel=1e-12)


@pytest.mark.parametrize("metric", ["auc", "log_loss", "mae", "rmse"])
def test_metrics_of_probabilities(metric: str) -> None:
    found = metric_of(metric, sums(OUTCOMES, CHANCES, BINARY), "x")
    assert found == pytest.approx(by_hand(metric, OUTCOMES, CHANCES), rel=1e-12)


def test_what_an_objective_does_not_ask_for_has_no_value() -> None:
    plain = sums(LABELS, FORECAST, Asked())
    assert [metric_of(metric, plain, "x") for metric in ("pinball", "auc", "log_loss")] == [None] * 3
    assert metric_of("auc", sums(np.ones(3), np.full(3, 0.4), BINARY), "x") is None, "no pair of a 1 and a 0"
    assert metric_of("rmspe", sums(np.zeros(3), np.ones(3), Asked()), "x") is None
    assert metric_of("wape", sums(np.zeros(3), np.ones(3), Asked()), "x") is None
    nothing = {**dict.fromkeys(SCALES, 0), **{f"x_{name}": None for name in SUMS}}
    assert [metric_of(metric, nothing, "x") for metric in METRICS] == [None] * len(METRICS)


def test_a_certain_and_wrong_probability_costs_much_but_no_infinity() -> None:
    found = metric_of("log_loss", sums(np.array([1.0, 0.0]), np.array([0.0, 0.0]), BINARY), "x")
    assert found is not None
    assert 10 < found < 20


@pytest.mark.parametrize(("asked", "labels", "forecast"), [(QUANTILE, LABELS, FORECAST), (BINARY, OUTCOMES, CHANCES)])
def test_sums_of_segments_add_up_and_pairs_are_those_within_segments(
    asked: Asked, labels: np.ndarray, forecast: np.ndarray
) -> None:
    half = len(labels) // 2
    parts = [sums(labels[part], forecast[part], asked) for part in (slice(half), slice(half, None))]
    together, whole = totals(pa.Table.from_pylist(parts)), sums(labels, forecast, asked)
    for name, value in together.items():
        if name in ("x_discordant", "label_pairs"):
            assert value == (sum(part[name] or 0 for part in parts) if asked.binary else None)
        else:
            assert value == (None if whole[name] is None else pytest.approx(whole[name], rel=1e-12)), name


def test_a_segment_with_an_error_that_is_no_number_does_not_poison_the_others() -> None:
    good, bad = sums(LABELS, FORECAST, Asked()), sums(LABELS, np.full(5, np.nan), Asked())
    infinite = sums(np.array([np.inf]), np.ones(1), Asked())
    table = pa.Table.from_pylist([good, bad, infinite, {**good, "x_absolute": None}])
    assert undefined(table).to_pylist() == [False, True, True, False]
    assert totals(table)["x_squared"] == 2 * (good["x_squared"] or 0)


def test_pairs_with_a_probability_that_is_no_number() -> None:
    assert np.isnan(discordant_pairs(np.array([1.0, 0.0]), np.array([np.nan, 0.5])) or 0.0)
    assert discordant_pairs(np.array([1.0, 0.0]), np.array([0.9, 0.1])) == 0
    assert discordant_pairs(np.array([1.0, 0.0]), np.array([0.1, 0.9])) == 1
    assert discordant_pairs(np.array([1.0, 0.0]), np.array([0.5, 0.5])) == 0.5


def test_the_level_is_the_users_or_lightgbms() -> None:
    assert Asked.of({"objective": "quantile", "params": {"alpha": 0.2}}) == Asked(level=0.2)
    assert Asked.of({"objective": "quantile", "params": {}}) == Asked(level=0.9)
    assert Asked.of({"objective": "regression", "params": {"alpha": 0.2}}) == Asked()
    assert Asked.of({"objective": "binary", "params": {}}) == BINARY


def test_the_baseline_of_zeros_and_ones_knows_what_came_before_each_origin_and_is_never_certain() -> None:
    periods, labels = np.arange(6), np.array([1.0, 1.0, np.nan, 0.0, 1.0, 1.0])
    found = known_rate(periods, labels, np.array([-1, 1, 2, 3, 5]), otherwise=0.4)
    assert found.tolist() == pytest.approx([0.4, 2.5 / 3, 2.5 / 3, 2.5 / 4, 4.5 / 6])
    assert known_rate(periods, labels, np.array([-1]), otherwise=0.0).tolist() == [0.5]
