"""What is called clear is so as often as it says: bounds and chances against simulated truths and known formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from assets.champions.clearly import NO_EVIDENCE, chances_of_worse, discoveries, fleet_improvement

BLOCKS = 8


def losses(
    draw: np.random.Generator,
    gains: np.ndarray,
    blocks: int = BLOCKS,
    noise: float | np.ndarray = 0.2,
    shared: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Challenger, incumbent and rows (segments by blocks): the challenger's losses are lower by `gains`, by segment.

    `noise` differs from segment to segment; `shared` moves all segments of a block together.
    """
    shape = (len(gains), blocks)
    incumbent = draw.uniform(5, 50, (shape[0], 1)) * np.ones(shape)
    own = noise * draw.uniform(0.5, 1.5, (shape[0], 1)) * draw.standard_normal(shape)
    together = shared * draw.standard_normal((1, blocks))
    return incumbent * (1 - gains[:, None] + own + together), incumbent, np.full(shape, 4)


@pytest.mark.parametrize("blocks", [4, 6, 20])
def test_a_lower_bound_is_missed_as_often_as_it_may_be(blocks: int) -> None:
    missed = 0
    for seed in range(500):
        draw = np.random.default_rng(seed)
        old = draw.uniform(9, 11, blocks)
        new = old * (1 + 0.1 * draw.standard_normal(blocks))
        missed += fleet_improvement(new, old).low > 0
    assert 0.02 <= missed / 500 <= 0.085  # 5%, give or take three standard errors and the bootstrap's own


@pytest.mark.parametrize("chance", [0.05, 0.01])
def test_bounds_are_students_around_the_ratio(chance: float) -> None:
    draw = np.random.default_rng(3)
    old = draw.uniform(9, 11, 12)
    new = old * (0.9 + 0.05 * draw.standard_normal(12))
    found = fleet_improvement(new, old, chance=chance)
    share = 1 - new.sum() / old.sum()
    influence = (old - new - share * old) / old.mean()
    error = influence.std(ddof=1) / np.sqrt(12)
    assert found.share == pytest.approx(share)
    assert found.units == 12
    assert found.high - found.share == pytest.approx(t(11).ppf(1 - chance) * error, rel=0.08)
    assert found.share - found.low == pytest.approx(found.high - found.share)


def test_of_squares_the_root_is_compared() -> None:
    assert fleet_improvement(np.full(5, 0.81), np.ones(5), root=2).share == pytest.approx(0.1)
    assert fleet_improvement(np.full(5, 0.81), np.ones(5), root=1).share == pytest.approx(0.19)


def test_one_block_says_nothing_of_luck_and_two_do() -> None:
    one = fleet_improvement(np.array([1.0, 0.0]), np.array([2.0, 0.0]))
    assert (one.share, one.units) == (0.5, 1)
    assert np.isnan(one.low)
    assert np.isnan(one.high)
    two = fleet_improvement(np.array([1.0, 1.5]), np.array([2.0, 2.0]))
    assert two.units == 2
    assert two.low < two.share < two.high


def test_where_nobody_errs_nothing_is_better() -> None:
    nothing = fleet_improvement(np.zeros(4), np.zeros(4))
    assert (nothing.share, nothing.units) == (0.0, 0)
    from_nothing = fleet_improvement(np.ones(4), np.zeros(4))
    assert from_nothing.share == -np.inf
    assert np.isnan(from_nothing.low)


def test_a_chance_is_how_often_the_challenger_is_truly_no_better() -> None:
    draw = np.random.default_rng(5)
    gains = draw.normal(0.02, 0.08, 6_000)
    chances = chances_of_worse(*losses(draw, gains))
    for low, high in ((0.0, 0.05), (0.05, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 0.95), (0.95, 1.0)):
        there = (chances >= low) & (chances <= high)
        assert there.sum() > 100
        assert (gains[there] <= 0).mean() == pytest.approx(chances[there].mean(), abs=0.05), (low, high)


def test_segments_that_differ_by_luck_alone_are_all_like_the_fleet() -> None:
    """Shrunk towards a mean that is known well, none looks much better or worse than another."""
    draw = np.random.default_rng(6)
    better, worse = (chances_of_worse(*losses(draw, np.full(3_000, gain))) for gain in (0.1, -0.1))
    assert (better < 0.01).mean() > 0.95
    assert (worse > 0.99).mean() > 0.95


def test_what_all_segments_share_in_a_block_is_no_crowd_of_witnesses() -> None:
    """Equal fleets and shocks that hit all segments: the fleet's mean looks certain if segments counted one by one."""
    sure = [
        np.median(chances_of_worse(*losses(np.random.default_rng(seed), np.zeros(300), noise=0.05, shared=0.1))) < 0.05
        for seed in range(200)
    ]
    assert np.mean(sure) <= 0.1


@pytest.mark.parametrize("blocks", [4, 8])
def test_of_many_equal_segments_few_are_discoveries(blocks: int) -> None:
    found = [
        discoveries(chances_of_worse(*losses(np.random.default_rng(seed), np.zeros(400), blocks)), 0.05).mean()
        for seed in range(60)
    ]
    assert np.mean(found) <= 0.05


def test_a_quiet_segment_is_believed_sooner_than_a_loud_one() -> None:
    draw = np.random.default_rng(7)
    gains = draw.normal(0.0, 0.1, 800)
    noise = np.where(np.arange(800) % 2 == 0, 0.02, 0.6)[:, None]
    chances = chances_of_worse(*losses(draw, gains, noise=noise))
    wrong = np.abs(chances - (gains <= 0))
    assert wrong[::2].mean() < wrong[1::2].mean() / 2


def test_segments_of_few_blocks_or_without_a_number_are_no_evidence() -> None:
    challenger, incumbent, rows = losses(np.random.default_rng(8), np.full(50, 0.5), noise=0.01)
    rows[0, 3:] = 0
    rows[1, 4:] = 0
    challenger[2, 0] = np.nan
    incumbent[3] = 0.0
    found = chances_of_worse(challenger, incumbent, rows)
    assert found[[0, 2, 3]].tolist() == [NO_EVIDENCE] * 3
    assert found[1] < 0.05
    assert (found[4:] < 0.05).all()
    assert chances_of_worse(challenger[:1], incumbent[:1], rows[:1]).tolist() == [NO_EVIDENCE]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.floats(0.01, 0.5))
def test_discoveries_are_those_of_benjamini_and_hochberg(chances: list[float], rate: float) -> None:
    from scipy.stats import false_discovery_control

    given_ = np.array(chances)
    adjusted = false_discovery_control(given_)
    edge = np.isclose(adjusted, rate, rtol=1e-9)
    assert (discoveries(given_, rate) == (adjusted <= rate))[~edge].all()
