"""One model: arrays in, booster and predictions out."""

from __future__ import annotations

import difflib
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assets.models.intermittent import mostly_zero
from resources.problems import Problem

if TYPE_CHECKING:
    from lightgbm import Booster

Floats = NDArray[np.float64]


OF_COUNTS = ("poisson", "tweedie")  # objectives that no label below zero can have


def parameters(model: dict[str, Any], y: Floats, threads: int = 1) -> dict[str, Any]:
    """LightGBM's parameters for a segment with such labels; the user's own win.

    Capacity follows the rows: leaves grow with their root (4 at 150 rows, 9 at 730, 31 from 9,000), rows a leaf from 5
    to 20. Measured on weekly and daily retail tables: docs/architecture.md. What a search has found for segments of
    such a size multiplies both, and changes the rest.
    """
    rows = len(y)
    tuned = tuned_for(model, rows)
    by_rows = {
        "learning_rate": 0.05,
        "num_leaves": max(2, round(int(np.clip(round(np.sqrt(rows) / 3), 4, 31)) * tuned.get("leaves", 1))),
        "min_data_in_leaf": max(1, round(int(np.clip(rows // 30, 5, 20)) * tuned.get("rows_a_leaf", 1))),
        "max_bin": 63,
        **tuned.get("params", {}),
    }
    given = model["params"]
    return {
        "objective": objective_for(y, model),
        "seed": model["seed"],
        **{name: value for name, value in by_rows.items() if not parameter_names(name) & given.keys()},
        **given,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": threads,
        "verbosity": -1,
    }


def objective_for(y: Floats, model: dict[str, Any]) -> str:
    """The objective for a segment's labels: another one where most of them are zero, if the recipe has one for these.

    Tweedie's variance function suits a sum with a point mass at zero: Jorgensen, "The theory of dispersion models"
    (1997); the median of such labels, which an absolute error asks for, is zero however much comes in between.
    """
    of_zeros = model.get("objective_of_zeros")
    if of_zeros and mostly_zero(y):
        return str(of_zeros)
    tuned = tuned_for(model, len(y)).get("objective")
    usable = tuned and (tuned not in OF_COUNTS or (y.min() >= 0 and y.max() > 0))
    return str(tuned if usable else model["objective"])


def tuned_for(model: dict[str, Any], rows: int) -> dict[str, Any]:
    """What a search has found for a segment of so many rows (see `tuned.py`); nothing where nothing was found."""
    found = (each for each in model.get("tuned", ()) if each["from"] <= rows)
    return next((each for each in found if each["below"] is None or rows < each["below"]), {})


@cache
def parameter_names(parameter: str) -> frozenset[str]:
    """The parameter and its aliases: LightGBM would let ours win over a user's alias."""
    from lightgbm.basic import _ConfigAliases

    return frozenset(_ConfigAliases.get(parameter))


def fit(x: Floats, y: Floats, model: dict[str, Any], categorical: list[int], threads: int = 1) -> Booster:
    """A booster of `x` (rows, features; NaN: missing) and finite `y`; the same trees for any number of threads.

    Raises:
        lightgbm.basic.LightGBMError: parameters or labels that LightGBM refuses.
    """
    rounds = tuned_for(model, len(y)).get("rounds") or model["rounds"]
    return boosted(x, transformed(y, model), parameters(model, y, threads), rounds, categorical)


def boosted(x: Floats, y: Floats, params: dict[str, Any], rounds: int, categorical: list[int]) -> Booster:
    """At most `rounds` trees. `lightgbm.train` gives the same ones, and spends a sixth of a small fit on callbacks.

    Raises:
        lightgbm.basic.LightGBMError: parameters or labels that LightGBM refuses.
    """
    import lightgbm as lgb

    data = lgb.Dataset(x, y, categorical_feature=categorical, params=params, free_raw_data=True)
    booster = lgb.Booster(params, data)
    for _ in range(rounds):
        if booster.update():  # no leaf can be split any more
            break
    return booster


def predict(booster: Booster, x: Floats, model: dict[str, Any], rounds: int | None = None) -> Floats:
    """Predictions in the label's own units, one a row of `x`; by the first so many `rounds`, all by default."""
    if not len(x):
        return np.empty(0)
    predicted = np.asarray(booster.predict(x, num_threads=1, num_iteration=rounds), dtype=np.float64)
    if model["label_transform"] == "log1p":
        return np.sign(predicted) * np.expm1(np.abs(predicted))
    return predicted


def transformed(y: Floats, model: dict[str, Any]) -> Floats:
    """Labels as the booster sees them; `log1p` keeps the sign, so that returns (negative sales) survive it."""
    return np.sign(y) * np.log1p(np.abs(y)) if model["label_transform"] == "log1p" else y


def parameter_problems(model: dict[str, Any]) -> list[Problem]:
    """Why LightGBM would refuse the parameters of fleet.yaml: unknown names, impossible values."""
    import lightgbm as lgb
    from lightgbm.basic import _ConfigAliases

    parameter_names("num_leaves")
    known = {name: own for own, names in (_ConfigAliases.aliases or {}).items() for name in {own, *names}}
    problems = []
    for name in model["params"]:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), n=1)
            remedy = f"did you mean {known[near[0]]}?" if near else "see LightGBM's list of parameters"
            problems.append(Problem(f"fleet.yaml model.params.{name}", "LightGBM knows no such parameter", remedy))
    x, model = np.arange(200.0).reshape(-1, 1), {**model, "objective": model["objective"] or "regression"}
    try:
        labels = np.arange(200.0) % 2 if model["objective"] == "binary" else 1 + np.arange(200.0) % 7
        fit(x, labels, {**model, "rounds": 1}, [])
    except (lgb.basic.LightGBMError, TypeError, ValueError) as error:
        problems.append(Problem("fleet.yaml model", f"LightGBM refuses it: {error}", "mend the value it names"))
    return problems
