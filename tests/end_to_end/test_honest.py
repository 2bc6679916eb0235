"""Labels after the cut-off dealt anew: nothing that was fitted, chosen or said before it may change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets.evaluation.judge import EVALUATION, evaluate
from assets.models.fleet_model import FLEET
from assets.models.line import WEIGHTED, weight_column
from assets.models.store import listing_of
from resources.spark import Spark
from tests.cycle import HORIZON, house, sales
from tests.lakes import Trained, feature_frame, train

pytestmark = pytest.mark.slow

DAYS = 60
CANDIDATES = ("challenger", "served", "fleet", "baseline", "median")
SAID = ["status", "reason", "chosen", "judged_digest", *[weight_column(name) for name in WEIGHTED]]


def dealt_anew(table: pd.DataFrame, last: int, of: Callable[[np.ndarray], np.ndarray]) -> pd.DataFrame:
    """The table with the labels of each shop's last labelled days changed by `of`."""
    made = table.copy()
    for _, rows in made[made["sold"].notna()].groupby("shop"):
        newest = rows.sort_values("day").index[-last:]
        made.loc[newest, "sold"] = of(made.loc[newest, "sold"].to_numpy())
    return made


def reversed_(labels: np.ndarray) -> np.ndarray:
    return labels[::-1].copy()


def fleet_of(folder: Path, spark: Spark, table: pd.DataFrame) -> Trained:
    keys = {"model": {"rounds": 30, "params": {"min_data_in_leaf": 3}}, "fleet_model": {"enabled": True}}
    made = train(house(folder, spark, table, **keys))
    home = made.home
    evaluate(home.lake, home.spark, home.settings, made.features, made.training, None)
    return made


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> tuple[Trained, Trained]:
    """A fleet, and the same with each shop's holdout in reverse order."""
    table = sales(6, DAYS)
    return (
        fleet_of(tmp_path_factory.mktemp("as_it_was"), spark, table),
        fleet_of(tmp_path_factory.mktemp("dealt_anew"), spark, dealt_anew(table, HORIZON, reversed_)),
    )


def judged(made: Trained) -> pd.DataFrame:
    return made.home.lake.table(EVALUATION).arrow().to_pandas().set_index("segment").sort_index()


def test_the_labels_after_the_cut_off_are_others(both: tuple[Trained, Trained]) -> None:
    """And what saw them is: the models that serve, the errors on the holdout."""
    one, other = (judged(each) for each in both)
    assert (one["served_digest"] != other["served_digest"]).all()
    assert (one["challenger_absolute"] != other["challenger_absolute"]).any()
    assert (one["label_absolute"] - other["label_absolute"]).abs().max() < 1e-9


def test_no_feature_of_a_row_up_to_the_cut_off_and_a_horizon_after_it_changes(both: tuple[Trained, Trained]) -> None:
    last = both[0].features.profile.last_period
    one, other = (feature_frame(each)[lambda rows: rows["__period"] <= last] for each in both)
    features = both[0].recipe.features
    pd.testing.assert_frame_equal(
        one[["__segment", "__period", *features]], other[["__segment", "__period", *features]]
    )


def test_twins_and_who_serves_are_the_same_byte_for_byte(both: tuple[Trained, Trained]) -> None:
    one, other = (listing_of(each.home.lake, each.training).to_pandas().set_index("segment") for each in both)
    assert one["judged_digest"].notna().all()
    pd.testing.assert_frame_equal(one[SAID].sort_index(), other[SAID].sort_index())
    assert both[0].training.unproven == both[1].training.unproven


def test_the_fleet_wide_models_up_to_the_cut_off_are_the_same(both: tuple[Trained, Trained]) -> None:
    import pyarrow.parquet as pq

    rows = [pq.read_table(f"{each.home.lake.root}/{each.training.fleet_file}").to_pylist()[0] for each in both]
    same = {name: rows[0][name] == rows[1][name] for name in FLEET.names if name in ("fold", "judged", "served")}
    assert same == {"fold": True, "judged": True, "served": False}


def test_what_each_candidate_says_of_the_holdout_is_the_same(both: tuple[Trained, Trained]) -> None:
    """The labels' sum is what it was, so the sum of signed errors is, too, if and only if that of forecasts is."""
    one, other = (judged(each) for each in both)
    for name in CANDIDATES:
        np.testing.assert_allclose(one[f"{name}_signed"], other[f"{name}_signed"], rtol=1e-9, atol=1e-9, err_msg=name)
