"""Quantiles hold what they say on rows that had no part in them; scales and scaled errors by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.evaluation import conformal
from assets.evaluation.compare import COMPARED
from assets.evaluation.conformal import calibrated, scaled_errors, scores_a_block, segment_scores
from assets.evaluation.interval_summary import interval_table, quantile_table
from assets.models.baseline import naive_scales
from assets.models.quantiles import (
    NEVER_NEGATIVE,
    OFFSETS,
    Quantiles,
    block_of_steps,
    blocks_of_horizon,
    levels_of,
    levels_said,
    quantile_name,
    quantiles_of,
)
from assets.models.segment import CutOffs
from tests.models.small import HOLDOUT, LAST, recipe, segment

LEVELS = [0.05, 0.5, 0.95]


def line(key: str, scores: Sequence[float], blocks: Sequence[int], **keys: Any) -> dict[str, Any]:
    usual = {"scale": 1.0, "scale_squared": 1.0, "next_scale": 1.0, "known": 500, NEVER_NEGATIVE: False}
    judged = {"segment": key, "count": len(scores), "label_absolute": float(len(scores))}
    return {**usual, **judged, "scores": list(scores), "score_blocks": list(blocks), **keys}


def table(lines: Sequence[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([{name: each.get(name) for name in COMPARED.names} for each in lines], COMPARED)


def quantiles(found: pa.Table) -> dict[str, Quantiles]:
    return {row["segment"]: quantiles_of(row) for row in found.to_pylist()}


def made_fleet(segments: int, seed: int, spread: float = 1.0) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Lines of segments whose labels deviate by a scale of their own, and as many new deviations in label units."""
    draw = np.random.default_rng(seed)
    scales = draw.lognormal(0, 2, segments)
    deviations = spread * draw.standard_t(4, (2, segments, 20)) * scales[:, None]
    blocks = np.repeat(np.arange(4), 5)
    lines = [
        line(f"s{n:04d}", deviations[0, n] / scales[n], blocks, scale=scales[n], next_scale=scales[n])
        for n in range(segments)
    ]
    return lines, deviations[1]


def test_new_labels_lie_below_each_quantile_as_often_as_it_says() -> None:
    lines, later = made_fleet(300, seed=1)
    found, said = calibrated(table(lines), LEVELS, recipe(horizon=20))
    assert said is not None
    offsets = np.array([np.frombuffer(row).reshape(4, 3) for row in found[OFFSETS].to_pylist()])
    below = later[:, :, None] <= offsets[:, np.repeat(np.arange(4), 5)]
    assert below.mean(axis=(0, 1)) == pytest.approx(LEVELS, abs=0.02)
    assert said["measured"] == pytest.approx(LEVELS, abs=0.02)
    assert said["intervals"][0]["coverage"] == pytest.approx(0.9, abs=0.02)
    assert [row["interval"] for row in said["intervals"]] == [0.9]


def test_a_segment_is_measured_by_the_others_quantiles() -> None:
    """Of every other segment deviations are a hundred times as large: what is said of itself would be right."""
    small, _ = made_fleet(100, seed=2, spread=0.01)
    large, _ = made_fleet(100, seed=3)
    both = [own for pair in zip(small, large, strict=True) for own in pair]
    for number, own in enumerate(both):
        own["segment"] = f"s{number:04d}"
    _, said = calibrated(table(both), LEVELS, recipe(horizon=20))
    assert said is not None
    coverage = said["intervals"][0]["coverage"]
    assert coverage == pytest.approx((1 + 0.02) / 2, abs=0.03)


@settings(max_examples=50, deadline=None)
@given(st.integers(100, 150), st.sampled_from([0.01, 0.1, 0.5, 0.9, 0.99]), st.integers(0, 1_000))
def test_of_exchangeable_deviations_no_fewer_than_the_level_are_below_or_above(n: int, level: float, seed: int) -> None:
    """Vovk's guarantee, exactly: leave each out in turn and count those below the quantile of the rest."""
    scores = np.random.default_rng(seed).normal(size=n + 1)
    held = []
    for place in range(n + 1):
        found = conformal._conformal(np.delete(scores, place), [level], conformal.FEWEST_SCORES)
        assert found is not None
        held.append(scores[place] <= found[0] if level >= 0.5 else scores[place] >= found[0])
    assert np.mean(held) >= max(level, 1 - level) - (1 / (n + 1) if level in (0.01, 0.99) else 1e-9)


def test_few_deviations_of_a_kind_are_pooled_with_others_and_too_few_say_nothing() -> None:
    draw = np.random.default_rng(0)
    short = [line(f"short {n}", draw.normal(size=4) * 10, [0, 1, 2, 3], known=50) for n in range(10)]
    long = [line(f"long {n}", draw.normal(size=40), [0, 1, 2, 3] * 10) for n in range(20)]
    found, _ = calibrated(table([*short, *long]), LEVELS, recipe(horizon=20))
    said = quantiles(found)
    np.testing.assert_allclose(said["long 0"].offsets[:, 2], 1.64, atol=0.5)
    assert (said["short 0"].offsets[:, 2] > said["long 0"].offsets[:, 2]).all(), (
        "ten times as far off, in the pool of all"
    )
    many = [line(f"short {n}", draw.normal(size=200) * 10, [0, 1, 2, 3] * 50, known=50) for n in range(15)]
    more = [dict(own, segment=f"other {n}") for n, own in enumerate(many)]

    def of_first_block(lines: list[dict[str, Any]]) -> Any:
        return conformal._conformal(np.concatenate([own["scores"][::4] for own in lines]), LEVELS, 1)

    own, together = of_first_block(many), of_first_block([*many, *long])
    wider = [min(own[0], together[0]), together[1], max(own[2], together[2])]
    for lines, wanted in ((many, wider), ([*many, *more], of_first_block([*many, *more]))):
        said = quantiles(calibrated(table([*lines, *long]), LEVELS, recipe(horizon=20))[0])
        np.testing.assert_allclose(said["short 0"].offsets[0], wanted, err_msg="fifteen segments are no class")
    found, measured = calibrated(table(short), LEVELS, recipe(horizon=20))
    assert measured is None
    assert found[OFFSETS].null_count == len(short)


def test_the_few_short_segments_of_a_fleet_are_covered_though_they_are_harder_to_forecast() -> None:
    lines, _ = made_fleet(100, seed=3)
    draw = np.random.default_rng(4)
    short = [line(f"short {n}", 5 * draw.standard_t(4, 20), np.repeat(np.arange(4), 5), known=50) for n in range(8)]
    later = 5 * draw.standard_t(4, 20_000)
    said = quantiles(calibrated(table([*lines, *short]), LEVELS, recipe(horizon=20))[0])
    held = [((later > low) & (later <= high)).mean() for low, _, high in said["short 0"].offsets]
    assert np.mean(held) > 0.85
    alone = quantiles(calibrated(table(lines), LEVELS, recipe(horizon=20))[0])
    np.testing.assert_array_equal(said["s0000"].offsets, alone["s0000"].offsets, err_msg="others are not concerned")


def test_a_segment_of_which_nothing_is_known_gets_the_usual_scale_and_a_constant_one_none() -> None:
    lines, _ = made_fleet(60, seed=5)
    unknown = line("unknown", [], [], known=0, scale=0.0, next_scale=0.0)
    constant = line("constant", [], [], scale=0.0, next_scale=0.0)
    found = quantiles(calibrated(table([*lines, unknown, constant]), LEVELS, recipe(horizon=20))[0])
    assert (found["unknown"].offsets[:, 2] > 0).all()
    assert not found["constant"].offsets.any()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8), st.booleans(), st.integers(0, 10_000))
def test_quantiles_never_cross_and_are_not_below_zero_where_no_label_was(
    forecast: list[float], never: bool, seed: int
) -> None:
    offsets = np.sort(np.random.default_rng(seed).normal(size=(4, 3)) * 100, axis=1)
    said = Quantiles((0.05, 0.5, 0.95), offsets, never)
    point = np.array(forecast)
    found = said.around(point, np.arange(1, len(point) + 1), 8, [0.05, 0.5, 0.95])
    assert (np.diff(found, axis=1) >= 0).all()
    if never:
        assert (found >= np.minimum(0, point)[:, None]).all()
    else:
        np.testing.assert_allclose(found[0], point[0] + offsets[0])
    assert np.isnan(said.around(point, np.ones(len(point), int), 8, [0.25])).all(), "a level it has none for"


def test_a_segments_deviations_are_in_units_of_its_own_past() -> None:
    one, asked, cut = segment(), recipe(), CutOffs.of(recipe(), LAST)
    inside = one.between(cut.holdout, cut.last)
    served = one.labels[inside] + np.arange(HOLDOUT)
    said = segment_scores(one, inside, served, asked, cut, 100)
    past = one.labels[: cut.holdout + 1]
    scale = np.abs(past[5:] - past[:-5]).mean()
    assert said["scale"] == pytest.approx(scale)
    assert said["scale_squared"] == pytest.approx(np.square(past[5:] - past[:-5]).mean())
    whole = one.labels[: LAST + 1]
    assert said["next_scale"] == pytest.approx(np.abs(whole[5:] - whole[:-5]).mean())
    np.testing.assert_allclose(said["scores"], -np.arange(HOLDOUT) / scale)
    assert said["score_blocks"] == block_of_steps(np.arange(1, 11), 10).tolist()
    assert (said["known"], said[NEVER_NEGATIVE]) == (cut.holdout + 1, True)


def test_labels_of_the_holdout_move_no_scale_that_they_are_measured_by() -> None:
    one, asked, cut = segment(), recipe(), CutOffs.of(recipe(), LAST)
    inside = one.between(cut.holdout, cut.last)
    wild = replace(one, labels=np.where(one.periods > cut.holdout, -one.labels * 7, one.labels))
    served = np.zeros(HOLDOUT)
    before, after = (segment_scores(each, inside, served, asked, cut, 100) for each in (one, wild))
    assert before["scale"] == after["scale"]
    assert before["next_scale"] != after["next_scale"]
    assert not after[NEVER_NEGATIVE]


def test_what_a_segment_gives_back_is_bounded_and_labels_of_two_values_give_nothing() -> None:
    one, asked, cut = segment(), recipe(), CutOffs.of(recipe(), LAST)
    inside = one.between(cut.holdout, cut.last)
    said = segment_scores(one, inside, np.zeros(HOLDOUT), asked, cut, 2)
    assert np.bincount(said["score_blocks"]).tolist() == [2, 2, 2, 2]
    assert segment_scores(one, inside, np.zeros(HOLDOUT), recipe(model={"objective": "binary"}), cut, 2) == {}
    assert (scores_a_block(50_000), scores_a_block(1_000), scores_a_block(3)) == (12, 50, 200)


def test_a_constant_or_unknown_past_has_no_scale_and_a_slip_of_the_hand_is_none() -> None:
    periods = np.arange(40)
    assert naive_scales(periods, np.full(40, 7.0), 5) == (0.0, 0.0)
    assert naive_scales(periods, np.full(40, np.nan), 5) == (0.0, 0.0)
    repeated = np.tile([1.0, 2.0, 3.0, 4.0, 5.0], 8)
    assert naive_scales(periods, repeated, 5)[0] == pytest.approx(1.2), "as it was a season ago: from the median"
    slip = repeated + np.random.default_rng(0).normal(size=40)
    usual = naive_scales(periods, slip, 5)[0]
    slip[20] = 1e9
    assert naive_scales(periods, slip, 5)[0] < 5 * usual


def test_scaled_errors_by_hand() -> None:
    rows = [
        {"count": 2, "scale": 2.0, "scale_squared": 4.0, "served_absolute": 8.0, "served_squared": 72.0},
        {"count": 1, "scale": 1.0, "scale_squared": 1.0, "served_absolute": 1.0, "served_squared": 1.0},
        {"count": 5, "scale": 0.0, "scale_squared": 0.0, "served_absolute": 9.0, "served_squared": 9.0},
        {"count": 0, "scale": 1.0, "scale_squared": 1.0, "served_absolute": 0.0, "served_squared": 0.0},
    ]
    found = scaled_errors(pa.Table.from_pylist(rows), ["served"])
    assert found == {"mase": {"served": 1.5}, "rmsse": {"served": 2.0}}


def test_names_levels_and_blocks() -> None:
    assert [quantile_name(x) for x in (0.05, 0.5, 0.975, 0.001)] == ["p05", "p50", "p97_5", "p00_1"]
    assert levels_of(levels_said(LEVELS)) == tuple(LEVELS)
    assert blocks_of_horizon(2) == [(1, 1), (2, 2)]
    assert block_of_steps(np.array([1, 7, 8, 28, 99]), 28).tolist() == [0, 0, 1, 3, 3]


def test_what_people_see_has_a_row_a_level_and_a_part() -> None:
    lines, _ = made_fleet(300, seed=1)
    _, said = calibrated(table(lines), LEVELS, recipe(horizon=20))
    record = {"quantiles": said}
    assert quantile_table(record)["quantile"].tolist() == LEVELS
    rows = interval_table(record)
    assert rows["of"].tolist() == [
        "all", "steps 1 to 5", "steps 6 to 10", "steps 11 to 15", "steps 16 to 20", "segments with rows 100 to 999",
    ]  # fmt: skip
