"""What is searched: Optuna's dimensions, without those that the user has decided, and the parameters that they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assets.models.fit import OF_COUNTS, parameter_names
from assets.raw.recipe import Recipe
from assets.raw.tuned import feature_groups
from resources.settings import Settings

if TYPE_CHECKING:
    from optuna import Trial

AS_IS, LOSS, FEATURES = "as it is", "loss", "features"
ROOT = "regression of the root"
# dimension -> LightGBM's parameter, the lowest and highest value, the default; all of them on a logarithmic scale
SCALES = {
    "leaves": ("num_leaves", 0.5, 4.0, 1.0),
    "rows_a_leaf": ("min_data_in_leaf", 0.25, 4.0, 1.0),
    "learning_rate": ("learning_rate", 0.01, 0.2, 0.05),
}
# dimension, as LightGBM calls it -> what is tried, the default first
CHOICES: dict[str, tuple[Any, ...]] = {"lambda_l2": (0.0, 1.0, 10.0), "feature_fraction": (1.0, 0.8, 0.6, 0.4)}
LOSSES = ("regression_l1", "regression", ROOT, *OF_COUNTS)
OF_NUMBERS = ("wape", "mae", "rmse", "rmspe")  # metrics that these losses are an answer to
ROUNDS = (0.125, 0.25, 0.375, 0.5, 0.75, 1.0)  # of the recipe's


@dataclass(frozen=True)
class Space:
    """The dimensions left to search: `scales` between two numbers, `choices` of values; and `rounds` to stop at."""

    scales: tuple[str, ...]
    choices: dict[str, tuple[Any, ...]]
    rounds: tuple[int, ...]

    @classmethod
    def of(cls, settings: Settings, recipe: Recipe, *, negative: bool) -> Space:
        """What the user has not decided; `negative`: whether most segments have labels below zero."""
        written, given = settings.model.model_fields_set, recipe.model["params"].keys()
        choices = {name: values for name, values in CHOICES.items() if not parameter_names(name) & given}
        if recipe.metric in OF_NUMBERS and "objective" not in written:
            without_root = {ROOT} if "label_transform" in written else set()
            impossible = without_root | (set(OF_COUNTS) if negative else set())
            others = [each for each in LOSSES if each != recipe.model["objective"] and each not in impossible]
            choices[LOSS] = (AS_IS, *others)
        if (groups := feature_groups(recipe)) and "feature_contri" not in given:
            choices[FEATURES] = (AS_IS, *groups)
        most = recipe.model["rounds"]
        rounds = {most} if "rounds" in written else {max(1, round(share * most)) for share in ROUNDS}
        scales = tuple(name for name, (own, *_) in SCALES.items() if not parameter_names(own) & given)
        return cls(scales, choices, tuple(sorted(rounds)))

    @property
    def defaults(self) -> dict[str, Any]:
        """The point of the space at which nothing is changed."""
        return {**{name: SCALES[name][-1] for name in self.scales}, **{n: v[0] for n, v in self.choices.items()}}

    def asked(self, trial: Trial) -> dict[str, Any]:
        """The point that Optuna asks to have tried."""
        scales = {name: trial.suggest_float(name, *SCALES[name][1:3], log=True) for name in self.scales}
        return {**scales, **{name: trial.suggest_categorical(name, list(v)) for name, v in self.choices.items()}}

    def entry(self, point: dict[str, Any]) -> dict[str, Any]:
        """A choice's entry (see `tuned.py`) for a point, for any number of rows."""
        tried = {name: float(f"{value:.3g}") if name in SCALES else value for name, value in point.items()}
        params = {name: tried[name] for name in ("learning_rate", *CHOICES) if name in tried}
        loss = str(tried.get(LOSS, AS_IS))
        if loss == ROOT:
            params["reg_sqrt"] = True
        return {
            "from": 0,
            "below": None,
            "rounds": None,
            "leaves": tried.get("leaves", 1.0),
            "rows_a_leaf": tried.get("rows_a_leaf", 1.0),
            "objective": {AS_IS: None, ROOT: "regression"}.get(loss, loss),
            "without": None if tried.get(FEATURES, AS_IS) == AS_IS else tried[FEATURES],
            "params": {name: value for name, value in params.items() if value != _default(name)},
        }


def _default(name: str) -> Any:
    return SCALES[name][-1] if name in SCALES else CHOICES[name][0] if name in CHOICES else None
