"""A packed model: whole again to the letter, and its quick part predicts to the bit what the whole one does."""

from __future__ import annotations

from typing import Any

import lightgbm as lgb
import numpy as np
import pytest

from assets.models.packing import SIZES, model_text, packed, unpacked

ROWS = 300
KINDS: dict[str, dict[str, Any]] = {
    "squared error": {},
    "one leaf": {"min_data_in_leaf": ROWS},
    "binary": {"objective": "binary"},
    "tweedie": {"objective": "tweedie"},
    "dart": {"boosting": "dart"},
    "forest": {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.7},
    "linear leaves": {"linear_tree": True},
    "no missing values": {"use_missing": False},
    "many threads": {"num_threads": 2},
}


def features(rows: int = ROWS) -> np.ndarray:
    """Two numbers, one of them with gaps, and codes of categories."""
    draw = np.random.default_rng(1)
    x = np.column_stack([draw.normal(size=rows), draw.normal(size=rows), draw.integers(0, 12, rows)])
    x[::7, 1] = np.nan
    return x


def fitted(**params: Any) -> lgb.Booster:
    x = features()
    y = (x[:, 0] + (x[:, 2] % 3) > 1).astype(float)
    usual = {"verbosity": -1, "num_threads": 1, "num_leaves": 9, "min_data_in_leaf": 5, "deterministic": True}
    return lgb.train(usual | params, lgb.Dataset(x, y, categorical_feature=[2], free_raw_data=False), 12)


@pytest.mark.parametrize("params", KINDS.values(), ids=KINDS)
def test_nothing_is_lost_and_nothing_predicts_otherwise(params: dict[str, Any]) -> None:
    booster, x = fitted(**params), features(50) * 1.1
    model = packed(booster)
    text = booster.model_to_string()
    assert model_text(model) == text.replace("[num_threads: 2]", "[num_threads: 1]")
    np.testing.assert_array_equal(unpacked(model).predict(x), booster.predict(x))
    np.testing.assert_array_equal(lgb.Booster(model_str=model_text(model)).predict(x), booster.predict(x))


def test_what_forecasting_reads_is_a_part_of_the_whole() -> None:
    model = packed(fitted(num_leaves=31))
    size, packed_size, rest = SIZES.unpack_from(model)
    assert size + rest > len(model_text(model))
    assert size < 0.7 * len(model_text(model))
    assert packed_size < 0.7 * len(model)
