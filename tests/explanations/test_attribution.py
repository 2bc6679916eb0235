"""SHAP values: those of the definition, on trees small enough to try every set of features."""

from __future__ import annotations

from itertools import combinations
from math import factorial
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest

from assets.explanations.attribution import BINS, contributions, direction, histogram, quantile, shares
from assets.explanations.publish import of_fleet
from assets.models.fit import fit
from assets.models.packing import packed, unpacked, unpacked_whole

MODEL: dict[str, Any] = {
    "objective": "regression", "rounds": 5, "label_transform": "none", "seed": 0,
    "params": {"num_leaves": 6, "min_data_in_leaf": 10},
}  # fmt: skip


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(300, 4))
    return x, 3 * x[:, 0] - x[:, 1] + x[:, 0] * x[:, 2] + draw.normal(0, 0.1, 300)


@pytest.fixture(scope="module")
def booster(data: tuple[np.ndarray, np.ndarray]) -> lgb.Booster:
    return fit(*data, MODEL, [])


def expected(node: dict[str, Any], row: np.ndarray, known: frozenset[int]) -> float:
    """A tree's mean over its rows for a row of which only some features are known."""
    if "leaf_value" in node:
        return float(node["leaf_value"])
    left, right = node["left_child"], node["right_child"]
    if node["split_feature"] in known:
        return expected(left if row[node["split_feature"]] <= node["threshold"] else right, row, known)
    counts = [child.get("internal_count", child.get("leaf_count")) for child in (left, right)]
    means = [expected(child, row, known) for child in (left, right)]
    return float(np.average(means, weights=counts))


def by_definition(booster: lgb.Booster, row: np.ndarray) -> np.ndarray:
    """Shapley values (Shapley 1953) of all features, set by set."""
    trees = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
    count = len(row)
    found = np.zeros(count)
    for feature in range(count):
        others = [each for each in range(count) if each != feature]
        for size in range(count):
            weight = factorial(size) * factorial(count - size - 1) / factorial(count)
            for chosen in combinations(others, size):
                known = frozenset(chosen)
                gain = sum(expected(t, row, known | {feature}) - expected(t, row, known) for t in trees)
                found[feature] += weight * gain
    return found


def test_contributions_are_shapley_values(booster: lgb.Booster, data: tuple[np.ndarray, np.ndarray]) -> None:
    x = data[0][:5]
    found = contributions(unpacked_whole(packed(booster)), x)
    np.testing.assert_allclose(found, [by_definition(booster, row) for row in x], atol=1e-9)


def test_what_forecasting_reads_of_a_model_is_not_enough(booster: lgb.Booster, data: Any) -> None:
    """Without the nodes' counts LightGBM gives other numbers: the reason for reading a model whole."""
    x = data[0][:5]
    assert not np.allclose(contributions(unpacked(packed(booster)), x), contributions(booster, x), atol=1e-6)


def test_shares_sum_to_one_and_name_what_matters(booster: lgb.Booster, data: tuple[np.ndarray, np.ndarray]) -> None:
    values = contributions(booster, data[0])
    found = shares(values)
    assert found.sum() == pytest.approx(1)
    assert found.argmax() == 0
    np.testing.assert_allclose(found, np.abs(values).mean(axis=0) / np.abs(values).mean(axis=0).sum())
    assert [direction(data[0][:, place], values[:, place]) for place in (0, 1)] == [1, -1]
    assert not shares(np.zeros((3, 2))).any()


def test_a_direction_needs_two_values_on_both_sides() -> None:
    nan = np.nan
    assert direction(np.array([1.0, nan, 3.0]), np.array([5.0, -9.0, 2.0])) == -1
    assert direction(np.array([nan, nan, 3.0]), np.array([5.0, -9.0, 2.0])) == 0
    assert direction(np.full(3, 2.0), np.array([1.0, 2.0, 3.0])) == 0
    assert direction(np.array([1.0, 2.0, 3.0]), np.zeros(3)) == 0


def test_quantiles_come_from_histograms_within_a_bin() -> None:
    values = np.random.default_rng(0).beta(1, 8, 5000)
    counts = np.bincount([histogram(value) for value in values], minlength=BINS)
    for at in (0.1, 0.25, 0.5, 0.75, 0.9):
        assert quantile(counts, at) == pytest.approx(np.quantile(values, at), abs=0.5 / BINS)
    assert histogram(1.0) == BINS - 1
    assert quantile(np.zeros(BINS, dtype=np.int64), 0.5) == 0


def test_a_segment_without_a_feature_counts_as_a_share_of_nothing() -> None:
    bins = [0] * BINS
    bins[BINS // 2] = 1
    lines = [{"feature": "price", "total": 0.5, "first": 1, "histogram": bins}] * 2
    (price,) = of_fleet(lines, 4)
    assert (price["feature"], price["mean"], price["first"]) == ("price", 0.25, 2)
    assert price["q25"] < 1 / BINS < 0.5 < price["q90"]
    assert of_fleet([], 0) == []
