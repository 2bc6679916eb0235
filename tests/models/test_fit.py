"""One model: deterministic, with parameters that follow the rows, and mistakes found before training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from assets.models.fit import fit, objective_for, parameter_problems, parameters, predict, transformed
from resources.settings import Model


def model(**keys: Any) -> dict[str, Any]:
    return Model(**{"objective": "regression", **keys}).model_dump()


def data(rows: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    x = np.column_stack([draw.normal(size=rows), draw.integers(0, 4, rows), draw.normal(size=rows)])
    x[::17, 0] = np.nan
    return x, 10 * (x[:, 1] == 2) + 3 * np.nan_to_num(x[:, 0]) + draw.normal(0, 0.1, rows)


def test_the_same_input_gives_the_same_bytes() -> None:
    x, y = data()
    settings = model(rounds=25, params={"bagging_fraction": 0.5, "bagging_freq": 1, "feature_fraction": 0.7})
    first, second = (fit(x.copy(), y.copy(), settings, [1]).model_to_string() for _ in range(2))
    assert first == second
    assert fit(x, y, {**settings, "seed": 5}, [1]).model_to_string() != first


@pytest.mark.parametrize(("rows", "leaves", "fewest"), [(20, 4, 5), (143, 4, 5), (730, 9, 20), (10_000, 31, 20)])
def test_capacity_follows_the_rows(rows: int, leaves: int, fewest: int) -> None:
    chosen = parameters(model(), np.arange(float(rows)))
    assert (chosen["num_leaves"], chosen["min_data_in_leaf"]) == (leaves, fewest)


@pytest.mark.parametrize(
    ("alias", "ours", "value"),
    [
        ("max_leaf", "num_leaves", 17),
        ("min_child_samples", "min_data_in_leaf", 2),
        ("eta", "learning_rate", 0.3),
    ],
)
def test_what_the_user_writes_wins_under_any_of_its_names(alias: str, ours: str, value: float) -> None:
    chosen = parameters(model(params={alias: value}), np.arange(500.0))
    assert chosen[alias] == value
    assert ours not in chosen
    x, y = data()
    said = fit(x, y, model(rounds=2, params={alias: value}), []).model_to_string()
    assert f"[{ours}: {value}]" in said


def test_one_thread_and_determinism_cannot_be_taken_away() -> None:
    chosen = parameters({**model(), "params": {"num_threads": 8, "deterministic": False}}, np.arange(100.0))
    assert (chosen["num_threads"], chosen["deterministic"]) == (1, True)


def test_rounds_are_trees() -> None:
    x, y = data()
    assert fit(x, y, model(rounds=7), []).num_trees() == 7


def test_log1p_keeps_the_sign_and_comes_back() -> None:
    labels = np.array([-500.0, -1.0, -0.25, 0.0, 0.25, 1.0, 500.0])
    seen = transformed(labels, model(label_transform="log1p"))
    assert (np.sign(seen) == np.sign(labels)).all()
    assert np.isfinite(seen).all()

    class Echo:
        def predict(self, x: np.ndarray, **_: Any) -> np.ndarray:
            return x[:, 0]

    back = predict(Echo(), seen.reshape(-1, 1), model(label_transform="log1p"))  # type: ignore[arg-type]
    np.testing.assert_allclose(back, labels, atol=1e-12)


def test_log1p_learns_negative_labels() -> None:
    x = np.repeat([[0.0], [1.0]], 50, axis=0)
    y = np.where(x[:, 0] > 0, 900.0, -30.0)
    settings = model(rounds=200, label_transform="log1p", params={"learning_rate": 0.2})
    predicted = predict(fit(x, y, settings, []), np.array([[0.0], [1.0]]), settings)
    np.testing.assert_allclose(predicted, [-30, 900], rtol=0.01)


def test_no_rows_are_no_predictions() -> None:
    x, y = data()
    assert predict(fit(x, y, model(rounds=1), []), np.empty((0, 3)), model()).shape == (0,)


def test_good_parameters_have_no_problem() -> None:
    assert parameter_problems(model(params={"learning_rate": 0.1, "max_leaf": 8, "lambda_l2": 1})) == []


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"learning_rat": 0.1}, "did you mean learning_rate?"),
        ({"num_leaves": 1}, "num_leaves"),
        ({"min_data_in_leaf": -3}, "min_data_in_leaf"),
        ({"feature_fraction": 1.5}, "feature_fraction"),
    ],
)
def test_mistakes_are_named(params: dict[str, Any], said: str) -> None:
    problems = parameter_problems(model(params=params))
    assert problems
    assert said in "\n".join(map(str, problems))


@pytest.mark.parametrize(
    "objective",
    ["regression", "regression_l1", "huber", "fair", "poisson", "quantile", "mape", "gamma", "tweedie"],
)
def test_every_objective_of_fleet_yaml_can_be_trained(objective: str) -> None:
    assert parameter_problems(model(objective=objective)) == []


@pytest.mark.parametrize(
    ("labels", "used"),
    [
        ([0.0, 0.0, 0.0, 2.0, 5.0], "tweedie"),
        ([0.0, 3.0, 0.0, 2.0, 5.0], "regression_l1"),
        ([0.0, 0.0, 0.0, -2.0, 5.0], "regression_l1"),
        ([0.0, 0.0, 0.0, 0.0, 0.0], "regression_l1"),
    ],
)
def test_mostly_zero_labels_have_a_loss_of_their_own_unless_the_user_chose_one(labels: list[float], used: str) -> None:
    y = np.array(labels)
    assert objective_for(y, {"objective": "regression_l1", "objective_of_zeros": "tweedie"}) == used
    assert objective_for(y, {"objective": "poisson", "objective_of_zeros": None}) == "poisson"
    assert objective_for(y, {"objective": "poisson"}) == "poisson"


def test_sparse_demand_is_not_forecast_as_nothing_at_all() -> None:
    """The median of such labels is zero; the forecasts' sum is what comes in between."""
    draw = np.random.default_rng(3)
    y = np.where(draw.random(400) < 0.3, draw.poisson(6, 400), 0).astype(float)
    x = np.column_stack([np.arange(400) % 7, draw.normal(size=400)])
    settings = model(objective="regression_l1", rounds=60) | {"objective_of_zeros": "tweedie"}
    said = predict(fit(x, y, settings, []), x, settings)
    assert said.min() >= 0
    assert said.sum() == pytest.approx(y.sum(), rel=0.15)
    of_median = predict(fit(x, y, {**settings, "objective_of_zeros": None}, []), x, settings)
    assert of_median.sum() < 0.5 * y.sum()
