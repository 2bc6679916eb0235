"""A fleet whose table has no time, through several weeks: new rows, nothing new, a feature more, a recipe that is no good."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assets.evaluation.incumbent import published_champion
from assets.features.publish import FEATURES, QUARANTINE
from assets.forecasts.brought import score_brought
from assets.raw.split import ROWS_A_CLASS
from resources.spark import Spark
from tests.cycle import House, flats, house, without_time
from tests.end_to_end.conftest import HOSTILE

pytestmark = pytest.mark.slow
DISTRICTS = HOSTILE[:6]
SPOILT = 3
Story = dict[str, dict[str, Any]]


def table(rows: int) -> pd.DataFrame:
    """Flats of hostile districts; a longer table starts with the rows of a shorter one, two rows are the same."""
    frames = [flats([name], rows, seed=seed) for seed, name in enumerate(DISTRICTS)]
    frame = pd.concat([*frames, frames[0].head(1)], ignore_index=True).astype({"floor": object})
    frame.loc[frame.index[:SPOILT], "rent"] = np.inf
    return frame.assign(floor=frame["floor"].astype(str))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, spark: Spark) -> House:
    return house(tmp_path_factory.mktemp("timeless") / "h", spark, table(150), **keys())


def keys(*features: str, **others: Any) -> dict[str, Any]:
    return without_time(features={"known_ahead": list(features or ("size", "floor"))}, **others)


def seen(home: House) -> dict[str, Any]:
    result = home.run()
    rows = home.lake.table(FEATURES).arrow().to_pandas()
    return {
        "success": result.success,
        "failed": {
            f"{c.asset_key.path[-1]}.{c.check_name}" for c in result.get_asset_check_evaluations() if not c.passed
        },
        "commits": home.commits(),
        "versions": home.versions(),
        "status": home.status(),
        "parts": rows.assign(part=rows["__period"] // ROWS_A_CLASS)[["district", "rent", "part"]],
    }


@pytest.fixture(scope="module")
def story(home: House) -> Story:
    told = {"first": seen(home), "unchanged": seen(home)}
    home.bring(table(200))
    told["more rows"] = seen(home)
    home.configure(**keys("size", "floor", "kind", "lift"))
    told["more features"] = seen(home)
    home.configure(**keys("lift"))
    told["worse"] = seen(home)
    return told


WEEKS = ["first", "unchanged", "more rows", "more features", "worse"]


@pytest.mark.parametrize("week", WEEKS)
def test_every_row_and_every_segment_is_accounted_for(story: Story, home: House, week: str) -> None:
    found, rows = story[week], len(DISTRICTS) * (150 if week in WEEKS[:2] else 200) + 1
    assert found["success"]
    expected = {"read": rows, "valid": rows - SPOILT, "quarantined": SPOILT, "by_reason": {"infinite:rent": SPOILT}}
    assert found["status"]["rows"] == expected
    assert found["status"]["segments"] == {"found": 6, "trained": 6, "skipped": 0, "failed": 0}
    assert found["status"]["forecasts"] == {"rows": 0, "start": None, "end": None}
    assert found["status"]["evaluation"]["holdout"] == {"start": None, "end": None}
    assert home.lake.table(QUARANTINE).arrow().num_rows == SPOILT


@pytest.mark.parametrize("week", WEEKS[:4])
def test_all_checks_pass_and_models_beat_the_mean(story: Story, week: str) -> None:
    assert story[week]["failed"] == set()
    judged = story[week]["status"]["evaluation"]
    assert judged["served"] < judged["baseline"] / 1.5


def test_a_run_with_nothing_new_does_nothing_new(story: Story) -> None:
    first, again = story["first"], story["unchanged"]
    assert again["commits"] == first["commits"]
    assert again["versions"] == first["versions"] == 1
    assert again["status"] == first["status"]
    assert first["status"]["champion"] == {"version": 1, "segments": 6, "trained_through": None}


def test_new_rows_move_no_old_row_and_the_incumbent_is_judged_with_the_challenger(story: Story) -> None:
    before, after = (Counter(story[week]["parts"].itertuples(index=False)) for week in ("first", "more rows"))
    assert before <= after
    assert 0 < before.total() < after.total()
    assert story["more rows"]["status"]["evaluation"]["incumbent"] is not None


def test_more_features_leave_the_holdout_as_it_was_and_are_compared_on_it(story: Story) -> None:
    before, after = (Counter(story[week]["parts"].itertuples(index=False)) for week in ("more rows", "more features"))
    assert before == after
    judged = story["more features"]["status"]["evaluation"]
    assert judged["served"] < judged["incumbent"]
    assert story["more features"]["versions"] == story["more rows"]["versions"] + 1


def test_a_worse_recipe_is_refused(story: Story) -> None:
    before, worse = story["more features"], story["worse"]
    assert "champions.gate" in worse["failed"]
    assert worse["status"]["champion"] == before["status"]["champion"]
    assert worse["status"]["evaluation"]["incumbent"] == before["status"]["evaluation"]["served"]


def test_the_champion_scores_rows_that_are_brought(story: Story, home: House) -> None:
    new = pd.concat([flats([name], 20, seed=90 + seed) for seed, name in enumerate(DISTRICTS)], ignore_index=True)
    given, out = home.folder / "new.csv", home.folder / "scored.csv"
    new.to_csv(given, index=False)
    champion = published_champion(home.lake, home.mlflow)
    counted = score_brought(home.lake, home.spark, home.settings, champion, str(given), str(out))
    rows = pd.read_csv(out)
    assert rows["district"].tolist() == new["district"].tolist()
    assert counted == rows["model"].value_counts().to_dict()
    kept = rows["kind"] != "new"
    error = (rows["forecast"] - rows["rent"]).abs()[kept].sum() / rows["rent"][kept].sum()
    assert error < 0.2
    assert set(rows["version"]) == {story["worse"]["status"]["champion"]["version"]}


def test_the_report_says_what_was_held_out(story: Story, home: House) -> None:
    page = (home.lake.read_file("reports/evaluation.html") or b"").decode()
    assert "a tenth of the rows, chosen by a hash of each" in page
    assert "the mean of the segment" in page
    assert "1970" not in page
    assert "seasonal" not in page


def test_an_incumbent_that_saw_the_rows_held_out_is_left_out(tmp_path: Any, spark: Spark) -> None:
    """A column that rows were told apart by is gone: all rows are dealt anew."""
    home = house(tmp_path / "h", spark, flats(2, 100), **without_time())
    assert home.run().success
    home.bring(flats(2, 100).drop(columns="kind"))
    assert home.run().success
    judged = home.status()["evaluation"]
    assert judged["incumbent"] is None
