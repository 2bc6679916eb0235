"""A search for the fleet: on segments like the fleet, on folds before the holdout, within its budget, and repeatable."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from assets.models.bucket import SegmentRows
from assets.models.fit import fit, parameters, predict
from assets.models.segment import CutOffs
from assets.models.tuning import search as searching
from assets.models.tuning.sample import (
    CANDIDATES,
    CLASSES,
    FEWEST,
    FEWEST_TRIALS,
    SAMPLED,
    Candidate,
    Extent,
    allotted,
    extent,
    in_order,
)
from assets.models.tuning.search import Bench, ClassSearch, Losses
from assets.models.tuning.space import FEATURES, LOSS, ROOT, Space
from assets.models.tuning.trial import SearchPlan, SearchTask, described, tried
from assets.raw.recipe import Recipe
from assets.raw.tuned import question, untuned, with_entries
from resources.settings import Settings
from tests.cycle import minimal
from tests.models.small import HOLDOUT, LAST, bucket_file, changed, recipe, segment

CUT = CutOffs.of(recipe(), LAST).holdout


def settings(**model: Any) -> Settings:
    return Settings.model_validate({**minimal(), "model": model})


def space(asked: Recipe | None = None, *, negative: bool = False, **model: Any) -> Space:
    return Space.of(settings(**model), asked or recipe(), negative=negative)


def plan(asked: Recipe | None = None) -> SearchPlan:
    return SearchPlan(asked or recipe(), CUT, 60.0)


def rows_of(scales: list[float]) -> pa.Table:
    fixed = {"bucket": 0, "rows": 50, "negative": False, "folds": 2}
    return pa.Table.from_pylist([{"segment": f"s{n}", "scale": s, **fixed} for n, s in enumerate(scales)], CANDIDATES)


# the sample


def test_every_start_of_the_sample_has_small_and_large_segments_alike() -> None:
    scales = np.random.default_rng(0).permutation(np.arange(81.0)).tolist()
    ordered = [scales[int(each.segment[1:])] for each in in_order(rows_of(scales))]
    assert sorted(ordered) == sorted(scales)
    for parts in (3, 9, 27):
        assert sorted(int(scale * parts // 81) for scale in ordered[:parts]) == list(range(parts))


def test_the_sample_is_the_same_whatever_order_segments_come_in() -> None:
    rows = rows_of([5.0, 1.0, 1.0, 3.0, 2.0, 2.0, 2.0])
    assert in_order(rows) == in_order(rows.take([3, 6, 0, 5, 1, 2, 4]))


# the budget


@pytest.mark.parametrize("fits", [888, 999, 5_000, 15_000, 200_000])
def test_a_search_costs_no_more_than_it_may_and_uses_most_of_it(fits: int) -> None:
    found = extent(fits, 2, 1_000_000)
    assert found
    cost = 2 * found.segments * (2.8 * found.trials + SAMPLED)
    assert cost <= fits
    assert cost > 0.6 * fits or (found.trials, found.segments) == (60, 100)
    assert found.trials >= FEWEST_TRIALS


def test_too_few_fits_or_segments_buy_no_search() -> None:
    assert extent(600 * 3 * 0.1, 2, 600) is None
    assert extent(100_000, 2, FEWEST * SAMPLED - 1) is None
    assert extent(100_000, 2, FEWEST * SAMPLED) == Extent(60, FEWEST)


def test_fits_go_to_classes_by_their_segments_and_not_to_those_that_are_too_small() -> None:
    small, middle, large = CLASSES
    found = allotted(15_000, 2, {small: 3_000, middle: 1_500, large: 20})
    assert {each: fits for each, (fits, _) in found.items()} == {small: 10_000, middle: 5_000}
    assert allotted(15_000, 2, {large: 20}) == {}


@pytest.mark.parametrize(("rows", "place"), [(0, 0), (299, 0), (300, 1), (1_999, 1), (2_000, 2), (10**9, 2)])
def test_each_number_of_rows_is_of_one_class(rows: int, place: int) -> None:
    assert [each for each in CLASSES if each.of(rows)] == [CLASSES[place]]


@pytest.mark.parametrize(("written", "share"), [("10%", 0.1), (0.25, 0.25), (" 5 % ", 0.05), (1, 1.0)])
def test_the_budget_is_a_share(written: Any, share: float) -> None:
    assert Settings.model_validate({**minimal(), "tuning": {"budget": written}}).tuning.budget == pytest.approx(share)


@pytest.mark.parametrize("written", ["a tenth", "%", 0, -0.1, "1100%", True])
def test_what_is_no_share_is_refused(written: Any) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({**minimal(), "tuning": {"budget": written}})


# the space


def test_the_defaults_of_the_space_are_the_defaults() -> None:
    asked, y = recipe(), np.arange(100.0)
    entry = space().entry(space().defaults)
    assert parameters(with_entries(asked, [entry]).model, y) == parameters(asked.model, y)


def test_what_the_user_wrote_is_not_searched() -> None:
    free = space()
    assert {"leaves", "rows_a_leaf", "learning_rate"} == set(free.scales)
    assert {"lambda_l2", "feature_fraction", LOSS, FEATURES} == set(free.choices)
    assert len(free.rounds) > 1
    params = {"num_leaf": 4, "eta": 0.1, "reg_lambda": 2.0}  # aliases
    asked = recipe(model={"params": params})
    fixed = space(asked, params=params, objective="regression", rounds=20)
    assert (fixed.scales, set(fixed.choices)) == (("rows_a_leaf",), {"feature_fraction", FEATURES})
    assert fixed.rounds == (20,)
    assert ROOT not in space(label_transform="none").choices[LOSS]


def test_losses_that_labels_cannot_have_are_not_searched() -> None:
    assert {"poisson", "tweedie"} <= set(space().choices[LOSS])
    assert not {"poisson", "tweedie"} & set(space(negative=True).choices[LOSS])
    assert LOSS not in space(recipe(metric="log_loss", model={"objective": "binary"}), objective="binary").choices


def test_a_choice_holds_for_its_class_alone() -> None:
    point = {"leaves": 2.0, "rows_a_leaf": 0.5, "learning_rate": 0.1234, "lambda_l2": 10.0, LOSS: "poisson"}
    entry = {**space().entry(point), "below": 300, "rounds": 7}
    model = with_entries(recipe(), [entry]).model
    y = 1 + np.arange(299.0)
    found, plain = parameters(model, y), parameters(recipe().model, y)
    assert found["num_leaves"] == 2 * plain["num_leaves"]
    assert found["min_data_in_leaf"] == round(plain["min_data_in_leaf"] / 2)
    assert (found["learning_rate"], found["lambda_l2"], found["objective"]) == (0.123, 10.0, "poisson")
    assert parameters(model, y - 2)["objective"] == "regression"  # no count
    assert parameters(model, 1 + np.arange(300.0)) == parameters(recipe().model, 1 + np.arange(300.0))
    x = y.reshape(-1, 1) % 13
    assert fit(x, y, model, []).num_trees() == 7


def test_a_model_without_a_group_of_features_does_not_look_at_them() -> None:
    asked = recipe(calendar_features=["month"], kinds={"sold": "number", "price": "number"})
    one = segment()
    x = np.column_stack([one.x[:, 1], one.x[:, 0], one.x[:, 0]])[:90]  # price, lag, calendar: the label is the lag's
    for without, used in ((None, [1]), ("lags", [2]), ("calendar", [1])):
        model = with_entries(asked, [{**space().entry({}), "without": without}]).model
        importance = fit(x, one.labels[:90], model, []).feature_importance()
        assert [place for place in (1, 2) if importance[place]] == used


def test_another_question_or_word_of_the_users_makes_a_choice_void() -> None:
    asked = {
        question(recipe(), settings()),
        question(recipe(), settings(rounds=200)),
        question(recipe(metric="rmse"), settings()),
        question(recipe(horizon=11), settings()),
    }
    assert len(asked) == 4
    assert question(recipe(), settings()) == question(recipe(lags=[10, 11]), settings())


def test_without_its_choice_a_recipe_is_the_one_before() -> None:
    tuned = with_entries(recipe(), [{**space().entry({}), "rounds": 7}])
    assert tuned.digest != recipe().digest
    assert untuned(tuned).digest == recipe().digest  # by which the fleet-wide model is known again


# the trials


def test_a_trial_loses_what_models_on_the_folds_before_the_holdout_lose(tmp_path: Path) -> None:
    one, asked = segment(), recipe()
    file = bucket_file(tmp_path, [one], asked)
    (line,) = tried(SearchTask(0, (file,)), plan(), [(3, asked)], [5, 20])
    wanted = []
    for stop in (5, 20):
        lost = 0.0
        for after in (CUT - HOLDOUT, CUT - 2 * HOLDOUT):
            own = fit(*one.through(after), {**asked.model, "rounds": stop}, [])
            inside = one.between(after, after + HOLDOUT)
            lost += np.abs(predict(own, one.x[inside], asked.model) - one.labels[inside]).sum()
        wanted.append(lost)
    assert line == {"trial": 3, "segment": "s", "losses": pytest.approx(wanted), "fits": 2}


def test_what_lies_in_the_holdout_changes_nothing(tmp_path: Path) -> None:
    found = []
    for number, rows in enumerate((segment(), changed(segment(), CUT))):
        (tmp_path / str(number)).mkdir()
        task = SearchTask(0, (bucket_file(tmp_path / str(number), [rows], recipe()),))
        found.append((list(described(task, plan())), list(tried(task, plan(), [(0, recipe())], [20]))))
    assert found[0] == found[1]
    assert found[0][1][0]["losses"][0] > 0


def test_segments_without_a_usable_fold_are_no_candidates(tmp_path: Path) -> None:
    short, constant = segment(key="short"), segment(key="constant")
    short.labels[: CUT - HOLDOUT - 10] = np.nan
    constant.labels[:CUT] = 7.0
    one_fold = segment(key="once")
    one_fold.labels[: CUT - HOLDOUT - 25] = np.nan
    task = SearchTask(0, (bucket_file(tmp_path, [segment(), short, constant, one_fold], recipe()),))
    assert {row["segment"]: row["folds"] for row in described(task, plan())} == {"s": 2, "once": 1}


# the search of a class


class HereBench(Bench):
    """A bench that tries in this process what workers would try."""

    def losses(self, trials: Any, segments: Any, stops: Any) -> dict[int, Losses]:
        found: dict[int, Losses] = {number: {} for number, _ in trials}
        task = SearchTask(0, self.files[0], frozenset(each.segment for each in segments))
        for row in tried(task, self.plan, trials, stops):
            found[row["trial"]][row["segment"]] = np.array(row["losses"])
            self.spent += row["fits"]
        return found


SLOW = recipe(model={"rounds": 8})  # eight steps of a twentieth: too few, so that a higher rate is better


@cache
def many(count: int = FEWEST * SAMPLED) -> tuple[SegmentRows, ...]:
    return tuple(segment(seed=n, key=f"s{n:03d}") for n in range(count))


def found_in(folder: Path, rows: tuple[SegmentRows, ...], fits: int = 900, margin: float = 0.0) -> dict[str, Any]:
    asked = SLOW
    file = bucket_file(folder, rows, asked)
    known = pa.Table.from_pylist(list(described(SearchTask(0, (file,)), plan(asked))), CANDIDATES)
    bench = HereBench(None, plan(asked), {0: (file,)}, fits)  # type: ignore[arg-type]
    found = ClassSearch(bench, space(asked, rounds=8), in_order(known), Extent(20, FEWEST), 0, margin).run(
        lambda _: None
    )
    assert bench.spent <= fits
    return {**found, "spent": bench.spent}


def test_a_search_finds_what_is_better_and_confirms_it_on_segments_it_has_not_seen(tmp_path: Path) -> None:
    found = found_in(tmp_path, many())
    assert found["entry"]["params"]["learning_rate"] > 0.1
    assert found["share"] < 0.8
    assert found["confirmed_on"] == FEWEST * SAMPLED // 2
    assert found["spent"] > 500
    finished = [trial for trial in found["trials"] if trial["finished"]]
    assert 1 < len(finished) < len(found["trials"]) / 2  # halved
    assert found["trials"][0]["share"] == 1.0  # the defaults
    folder = tmp_path / "again"
    folder.mkdir()
    assert found_in(folder, many()) == found


def test_a_search_stops_where_its_budget_ends_and_can_still_confirm(tmp_path: Path) -> None:
    found = found_in(tmp_path, many(), fits=450)
    assert 0 < len(found["trials"]) < 20
    assert found["confirmed_on"] == FEWEST * SAMPLED // 2


def test_what_is_not_confirmed_is_not_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "STANDARD_ERRORS", 1e6)
    found = found_in(tmp_path, many(), fits=450)
    assert found["entry"] is None
    assert found["confirmed"]
    assert "not clearly better" in found["why"]


def test_what_is_better_by_less_than_the_margin_is_not_adopted(tmp_path: Path) -> None:
    assert found_in(tmp_path, many(), fits=450, margin=0.99)["entry"] is None


def test_a_trial_that_cannot_be_fitted_is_never_chosen(tmp_path: Path) -> None:
    below = tuple(replace(rows, labels=rows.labels - 30) for rows in many())
    found = found_in(tmp_path, below)  # its space thinks that no label is below zero: they are, and poisson falls back
    assert np.isfinite(found["share"])


def test_a_segment_whose_defaults_fail_counts_for_nothing(tmp_path: Path) -> None:
    hostile = replace(many()[0], labels=np.where(many()[0].periods == 3, np.inf, many()[0].labels))
    file = bucket_file(tmp_path, [*many()[1:], hostile], SLOW)
    found = list(described(SearchTask(0, (file,)), plan(SLOW)))
    assert len(found) == len(many()) - 1


def test_candidates_are_what_a_trial_costs() -> None:
    bench = Bench(None, plan(), {}, allowed=10)  # type: ignore[arg-type]
    some = [Candidate("a", 0, 2), Candidate("b", 0, 1)]
    assert bench.can_pay(3, some)
    assert not bench.can_pay(3, some, reserve=2)
