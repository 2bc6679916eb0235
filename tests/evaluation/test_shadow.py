"""Shadow and split through whole weeks: who forecasts what, what is served, and what the labels say of both."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dagster import AssetKey, ExecuteInProcessResult, materialize

from assets.evaluation.incumbent import Champion, published_champion
from assets.evaluation.issues import FORECASTS, SHADOW_FORECASTS
from assets.evaluation.live_comparison import live_comparison
from assets.evaluation.live_errors import LIVE_ERRORS, LIVE_PERIODS, score_issues
from assets.evaluation.live_score import SUMS
from assets.evaluation.shadow import shadow_verdict
from assets.features.publish import current_features
from assets.forecasts.publish import publish_forecasts
from assets.forecasts.sample import sample_places
from orchestration.definitions import ASSETS, OF_TIME
from orchestration.retention import carry_out, plan_of
from resources.mlflow import CHALLENGER, CHAMPION
from resources.spark import Spark
from resources.table import Table
from tests.cycle import House, house, minimal, sales
from tests.lakes import built

pytestmark = pytest.mark.slow

SHOPS = [f"shop {n}" for n in range(8)]
SPLIT, SHADOW = 0.18, 0.25
SERVED_THEIRS, BOTH = {"shop 0"}, {"shop 0", "shop 5", "shop 2"}
KEYS = ["shop", "day"]
LENGTHS: dict[str, Any] = {
    "horizon": 8,
    "features": {**minimal()["features"], "lags": [8]},
    "evaluation": {"holdout": 8, "season": 4, "minimum_history": 20},
}
FROM, NEXT, HALF, WEEK = 60, 80, 84, 87


def table(days: int) -> pd.DataFrame:
    """From day 60 on every shop sells 40 more, of which only the second version knows."""
    return sales(SHOPS, days, ahead=8, shift=(FROM, 40.0))


def serve(home: House, days: int | None = None, **promotion: Any) -> ExecuteInProcessResult:
    """A cycle without training: what came, live errors, forecasts."""
    home.configure(**LENGTHS, promotion=promotion)
    if days is not None:
        home.bring(table(days))
    keys = [AssetKey(["tiny", name]) for name in ("raw", "features", "quarantine", LIVE_ERRORS, FORECASTS)]
    assets = [build(home.settings) for build in (*ASSETS, *OF_TIME)]
    resources = {"lake": home.lake, "spark": home.spark, "mlflow": home.mlflow}
    result = materialize(assets, selection=keys, instance=home.instance, resources=resources)
    assert result.success
    return result


def alias(home: House, champion: int, challenger: int | None) -> None:
    client = home.mlflow.client()
    client.set_registered_model_alias("tiny", CHAMPION, str(champion))
    if challenger is None:
        client.delete_registered_model_alias("tiny", CHALLENGER)
    else:
        client.set_registered_model_alias("tiny", CHALLENGER, str(challenger))


def copied(home: House, folder: Path) -> House:
    shutil.copytree(home.folder, folder)
    return House(folder, home.spark)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> House:
    """Two weeks, a version each."""
    made = house(tmp_path_factory.mktemp("shadow") / "begun", spark, **LENGTHS)
    for days in (FROM, NEXT):
        made.bring(table(days))
        assert made.run().success
    assert made.versions() == 2
    return made


@pytest.fixture(scope="module")
def waiting(begun: House) -> House:
    """The second version waits, the first serves."""
    made = copied(begun, begun.folder.parent / "waiting")
    alias(made, 1, 2)
    serve(made, shadow=SHADOW, split=SPLIT)
    return made


@pytest.fixture(scope="module")
def over(waiting: House) -> House:
    """The same a week later."""
    made = copied(waiting, waiting.folder.parent / "over")
    for days in (HALF, WEEK):
        serve(made, days, shadow=SHADOW, split=SPLIT)
    return made


@pytest.fixture
def own(waiting: House, tmp_path: Path) -> House:
    return copied(waiting, tmp_path / "own")


def rows(home: House, name: str, version: int | None = None) -> pd.DataFrame:
    return home.lake.table(name).arrow(version=version).to_pandas().sort_values(KEYS, ignore_index=True)


def of(frame: pd.DataFrame, shops: set[str]) -> pd.DataFrame:
    return frame[frame["shop"].isin(shops)].reset_index(drop=True)


def named(home: House, which: str) -> Champion:
    found = published_champion(home.lake, home.mlflow, which)
    assert found is not None
    return found


def test_the_sample_is_what_these_tests_take_it_for() -> None:
    places = dict(zip(SHOPS, sample_places(SHOPS), strict=True))
    assert {shop for shop, place in places.items() if place < SPLIT} == SERVED_THEIRS
    assert {shop for shop, place in places.items() if place < SHADOW} == BOTH


def test_the_split_sample_is_served_by_the_challenger_and_the_rest_by_the_champion(waiting: House) -> None:
    served = rows(waiting, FORECASTS)
    assert set(of(served, SERVED_THEIRS)["version"]) == {2}
    assert set(of(served, set(SHOPS) - SERVED_THEIRS)["version"]) == {1}
    assert (served.groupby("shop").size() == 8).all()
    assert waiting.lake.table(FORECASTS).record()["split"] == {"version": 2, "segments": 1}


def test_beside_lies_what_is_not_served_of_the_sample_and_nothing_else(waiting: House) -> None:
    beside = rows(waiting, SHADOW_FORECASTS)
    assert set(beside["shop"]) == BOTH
    assert set(of(beside, SERVED_THEIRS)["version"]) == {1}
    assert set(of(beside, BOTH - SERVED_THEIRS)["version"]) == {2}
    assert beside.columns.tolist() == rows(waiting, FORECASTS).columns.tolist()


def test_either_fleet_forecasts_as_if_it_served_alone(waiting: House, tmp_path: Path) -> None:
    by_second = rows(waiting, FORECASTS, 1)
    assert set(by_second["version"]) == {2}
    alone = copied(waiting, tmp_path / "alone")
    alias(alone, 1, None)
    serve(alone)
    by_first = rows(alone, FORECASTS)
    assert set(by_first["version"]) == {1}
    served, beside = rows(waiting, FORECASTS), rows(waiting, SHADOW_FORECASTS)
    pd.testing.assert_frame_equal(of(served, SERVED_THEIRS), of(by_second, SERVED_THEIRS))
    pd.testing.assert_frame_equal(of(beside, BOTH - SERVED_THEIRS), of(by_second, BOTH - SERVED_THEIRS))
    rest = set(SHOPS) - SERVED_THEIRS
    pd.testing.assert_frame_equal(of(served, rest), of(by_first, rest))
    pd.testing.assert_frame_equal(of(beside, SERVED_THEIRS), of(by_first, SERVED_THEIRS))


def test_the_same_again_commits_nothing(own: House) -> None:
    before = [own.lake.table(name).version() for name in (FORECASTS, SHADOW_FORECASTS)]
    serve(own, shadow=SHADOW, split=SPLIT)
    assert [own.lake.table(name).version() for name in (FORECASTS, SHADOW_FORECASTS)] == before


def test_a_larger_shadow_only_adds_and_leaves_the_forecasts_alone(own: House) -> None:
    before, version = rows(own, SHADOW_FORECASTS), own.lake.table(FORECASTS).version()
    serve(own, shadow=0.55, split=SPLIT)
    after = rows(own, SHADOW_FORECASTS)
    assert set(after["shop"]) > BOTH
    pd.testing.assert_frame_equal(of(after, BOTH), before)
    assert own.lake.table(FORECASTS).version() == version


def test_a_challenger_without_its_alias_is_out_of_the_forecasts_at_the_next_run(own: House) -> None:
    beside = own.lake.table(SHADOW_FORECASTS).version()
    alias(own, 1, None)
    result = serve(own, shadow=SHADOW, split=SPLIT)
    assert set(rows(own, FORECASTS)["version"]) == {1}
    assert own.lake.table(SHADOW_FORECASTS).version() == beside
    (event,) = result.asset_materializations_for_node("tiny__forecasts")
    assert "challenger version" not in event.metadata


def test_a_challenger_that_was_promoted_stands_beside_nobody(own: House) -> None:
    alias(own, 2, 2)
    beside = own.lake.table(SHADOW_FORECASTS).version()
    serve(own, shadow=SHADOW, split=SPLIT)
    assert set(rows(own, FORECASTS)["version"]) == {2}
    assert own.lake.table(SHADOW_FORECASTS).version() == beside


def test_without_shares_a_challenger_forecasts_nothing(begun: House, tmp_path: Path) -> None:
    home = copied(begun, tmp_path / "none")
    alias(home, 1, 2)
    serve(home)
    assert set(rows(home, FORECASTS)["version"]) == {1}
    assert not home.lake.table(SHADOW_FORECASTS).exists()


@pytest.mark.parametrize("dies_at", [SHADOW_FORECASTS, FORECASTS])
def test_a_kill_between_the_two_tables_leaves_the_old_forecasts_and_the_next_run_makes_both(
    begun: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    home = copied(begun, tmp_path / "killed")
    alias(home, 1, 2)
    home.configure(**LENGTHS, promotion={"shadow": SHADOW, "split": SPLIT})
    real, before = Table.commit, rows(home, FORECASTS)

    def dies(table: Table, *given: Any, **named: Any) -> int:
        if table.uri.endswith(f"/{dies_at}"):
            raise RuntimeError("died")
        return real(table, *given, **named)

    def forecast() -> None:
        features, both = current_features(home.lake), [named(home, CHAMPION), named(home, CHALLENGER)]
        publish_forecasts(home.lake, home.spark, home.settings, features, both[0], None, both[1])

    with monkeypatch.context() as patched:
        patched.setattr(Table, "commit", dies)
        with pytest.raises(RuntimeError):
            forecast()
    pd.testing.assert_frame_equal(rows(home, FORECASTS), before)
    forecast()
    assert set(of(rows(home, FORECASTS), SERVED_THEIRS)["version"]) == {2}
    assert set(rows(home, SHADOW_FORECASTS)["shop"]) == BOTH
    assert (home.lake.table(FORECASTS).version(), home.lake.table(SHADOW_FORECASTS).version()) == (2, 0)


def test_both_are_scored_on_the_same_segments_and_periods(over: House) -> None:
    found = over.lake.table(LIVE_ERRORS).arrow().to_pandas()
    mine = found[(found["issue"] == 2) & found["sampled"]]
    truth = table(WEEK)[lambda frame: frame["sold"].notna()]
    both = pd.concat([rows(over, FORECASTS, 2), rows(over, SHADOW_FORECASTS, 0)])
    joined = both[both["shop"].isin(BOTH)].merge(truth, on=KEYS)
    error = (joined["forecast"] - joined["sold"]).abs()
    wanted = error.groupby([joined["shop"], joined["version"]]).sum()
    assert len(wanted) == 2 * len(BOTH)
    summed = mine.groupby(["segment", "version"])[list(SUMS)].sum()
    assert summed["absolute"].tolist() == pytest.approx(wanted.sort_index().tolist(), rel=1e-12)
    assert (summed["count"] == 7).all()
    assert set(found[~found["sampled"] & (found["issue"] == 2)]["segment"]) == set(SHOPS) - BOTH


def test_the_comparison_is_of_all_that_both_forecast(over: House) -> None:
    frame, figure = live_comparison(over.lake, "wape")
    assert frame["issue"].tolist() == ["all", "2", "3"]
    assert set(frame["challenger"]) == {"2"}
    assert set(frame["champion"]) == {"1"}
    assert frame["segments"].tolist() == [3, 3, 3]
    assert frame["rows"].tolist() == [30, 21, 9]
    periods = over.lake.table(LIVE_PERIODS).arrow().to_pandas().query("sampled and issue == 2")
    first, second = (periods[periods["version"] == n][["absolute", "label_absolute"]].sum() for n in (1, 2))
    row = frame.iloc[1]
    assert row["champion wape"] == pytest.approx(first["absolute"] / first["label_absolute"])
    assert row["challenger wape"] == pytest.approx(second["absolute"] / second["label_absolute"])
    assert row["difference"] == pytest.approx(second["absolute"] / first["absolute"] - 1)
    assert (frame["lower"] <= frame["difference"]).all()
    assert (frame["difference"] <= frame["upper"]).all()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][-1] == "2 against 1, issue all"


def test_the_asset_shows_the_comparison(over: House) -> None:
    (event,) = over.instance.fetch_materializations(AssetKey(["tiny", LIVE_ERRORS]), limit=1).records
    metadata = event.asset_materialization.metadata
    assert len(metadata["challenger against champion"].value.records) == 3
    assert metadata["difference"].value.startswith("![plot]")


def verdict(home: House, share: float = SHADOW, **options: Any) -> Any:
    return shadow_verdict(home.lake, named(home, CHALLENGER), named(home, CHAMPION), share, **options)


def test_before_a_week_is_over_the_verdict_waits(own: House) -> None:
    assert (verdict(own).ready, verdict(own).passed) == (False, False)
    assert "0 days into its shadow, of 7" in verdict(own).reasons[0]
    serve(own, HALF, shadow=SHADOW, split=SPLIT)
    assert "4 days into its shadow, of 7" in verdict(own).reasons[0]


def test_after_a_week_a_better_challenger_passes(over: House) -> None:
    found = verdict(over)
    assert found.ready
    assert found.passed
    assert found.numbers["difference"] < 0
    assert (found.numbers["labels"], found.numbers["missing"], found.numbers["segments"]) == (30, 0, 3)
    assert "not clearly worse" in found.reasons[0]


def test_one_that_is_clearly_worse_does_not(begun: House, tmp_path: Path) -> None:
    home = copied(begun, tmp_path / "worse")
    alias(home, 2, 1)
    serve(home, shadow=1.0)
    serve(home, WEEK, shadow=1.0)
    found = verdict(home)
    assert (found.ready, found.passed) == (True, False)
    assert found.numbers["lower"] > 0
    assert "not clearly" not in found.reasons[0]
    assert verdict(home, tolerance=found.numbers["lower"] + 0.01).passed


def test_what_was_not_scored_or_has_no_label_is_waited_for(own: House) -> None:
    whole = table(WEEK)
    own.bring(whole.assign(sold=whole["sold"].mask(whole["shop"].isin(BOTH) & (whole["day"] >= "2024-03-21"))))
    built(own)
    assert "not scored yet" in verdict(own).reasons[0]
    score_issues(own.lake, own.spark, current_features(own.lake))
    assert verdict(own).reasons[0].startswith("0 of 21 forecasts that are due have a label")


def test_where_nothing_can_be_waited_for_nothing_is(own: House) -> None:
    challenger, champion = named(own, CHALLENGER), named(own, CHAMPION)
    for found in (
        shadow_verdict(own.lake, challenger, champion, 0.0),
        shadow_verdict(own.lake, challenger, None, SHADOW),
        shadow_verdict(own.lake, champion, champion, SHADOW),
    ):
        assert (found.ready, found.passed) == (True, True)
    other = dataclasses.replace(challenger, version=9)
    assert "nothing beside version 1 yet" in shadow_verdict(own.lake, other, champion, SHADOW).reasons[0]


def test_a_sample_without_a_segment_is_not_waited_for(begun: House, tmp_path: Path) -> None:
    home = copied(begun, tmp_path / "nobody")
    alias(home, 1, 2)
    serve(home, shadow=0.01)
    assert home.lake.table(SHADOW_FORECASTS).record()["rows"] == 0
    assert (verdict(home, 0.01).ready, verdict(home, 0.01).passed) == (True, True)


def test_what_lies_beside_forecasts_stays_as_long_as_they_do(over: House, tmp_path: Path) -> None:
    home = copied(over, tmp_path / "pruned")
    plan = plan_of(home.lake, home.mlflow, home.settings, 1)
    gone = {part.name: set(part.gone) for part in plan.parts}
    # issues 1 and 2 await the last of their eight days, and version 0 of the shadow lies beside the second
    assert gone[FORECASTS] == {"0"}
    assert SHADOW_FORECASTS not in gone
    carry_out(home.lake, plan)
    serve(home, WEEK + 8, shadow=SHADOW, split=SPLIT)
    gone = {part.name: set(part.gone) for part in plan_of(home.lake, home.mlflow, home.settings, 1).parts}
    assert {"1", "2", "3"} <= gone[FORECASTS]
    assert {"0", "1"} <= gone[SHADOW_FORECASTS]
