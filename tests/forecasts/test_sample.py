"""The sample: stable, growing with the share, and of about that share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.forecasts.sample import sample_places

KEYS = [f"shop {n}|food" for n in range(20_000)]


def test_it_never_changes() -> None:
    assert sample_places(["shop 0", "shop 1", ""]).tolist() == pytest.approx(WRITTEN_DOWN, abs=1e-12)


WRITTEN_DOWN = [0.1733186311555115, 0.28503739160309427, 0.36384644000147803]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_it_is_of_about_the_share(share: float) -> None:
    found = float((sample_places(KEYS) < share).mean())
    assert abs(found - share) < 4 * np.sqrt(share * (1 - share) / len(KEYS))


def test_nobody_is_in_a_sample_of_nothing_and_everybody_in_one_of_all() -> None:
    places = sample_places(KEYS)
    assert not (places < 0.0).any()
    assert (places < 1.0).all()


@given(st.lists(st.text(), min_size=1, unique=True), st.data())
def test_who_is_in_does_not_depend_on_who_else_there_is(keys: list[str], data: st.DataObject) -> None:
    some = data.draw(st.lists(st.sampled_from(keys), unique=True))
    whole = dict(zip(keys, sample_places(keys), strict=True))
    assert sample_places(some).tolist() == [whole[key] for key in some]


def test_a_larger_share_only_adds() -> None:
    places = sample_places(KEYS)
    members = [{key for key, place in zip(KEYS, places, strict=True) if place < share} for share in (0.05, 0.1, 0.4)]
    assert members[0] < members[1] < members[2]
