"""Frequencies and periods: found in times with gaps, and counted so that they never move."""

import numpy as np
import pandas as pd
import pytest

from assets.raw.calendar import Calendar, calendar_of, coarser, infer_calendar, seasons
from assets.raw.profile import last_label


def inferred(times: pd.DatetimeIndex) -> Calendar | None:
    return infer_calendar(times, np.ones(len(times), np.int64))


@pytest.mark.parametrize(
    ("frequency", "start"),
    [
        ("h", "2024-01-01"), ("D", "2024-01-01"), ("D", "2024-01-01 06:00"), ("B", "2024-01-01"),
        ("W-FRI", "2024-01-05"),
        ("W-MON", "2024-01-01 12:30"), ("MS", "1966-03-01"), ("ME", "2020-01-31"),
        ("QS", "2010-01-01"), ("YS", "1901-01-01"),
        ("15min", "2024-01-01 00:05"), ("5min", "2024-01-01"), ("min", "2024-01-01"),
        ("s", "2024-01-01"), ("4h", "2024-01-01"),
    ],
)  # fmt: skip
def test_a_frequency_is_found_with_gaps_and_its_periods_are_consecutive(frequency: str, start: str) -> None:
    times = pd.date_range(start, periods=240, freq=frequency)
    kept = times[np.random.default_rng(1).random(240) > 0.15]
    calendar = inferred(kept)
    assert calendar is not None
    assert calendar.frequency.replace("YS-JAN", "YS") == frequency
    assert calendar.holds(times).all()
    numbers = calendar.periods(times)
    assert numbers.tolist() == list(range(numbers[0], numbers[0] + 240))
    some = [0, 1, 50, len(kept) - 1]
    assert calendar.periods(kept)[some].tolist() == [calendar.period_of(kept[position]) for position in some]
    assert calendar.times(kept[0], kept[-1], beyond=3)[-4] == kept[-1]


@pytest.mark.parametrize("frequency", ["h", "D", "B", "W-SUN", "MS", "QS", "2D"])
def test_periods_do_not_move_when_earlier_rows_arrive(frequency: str) -> None:
    times = pd.date_range("1967-06-01", "1972-01-01", freq=frequency)
    rows = np.ones(len(times), np.int64)
    whole, part = calendar_of(frequency, times, rows), calendar_of(frequency, times[10:], rows[10:])
    assert whole.periods(times[10:]).tolist() == part.periods(times[10:]).tolist()


def test_one_row_in_a_hundred_may_lie_off_the_calendar() -> None:
    times = pd.date_range("2024-01-01", periods=199, freq="D").append(pd.DatetimeIndex(["2024-03-01 07:11:13"]))
    calendar = inferred(times.sort_values())
    assert calendar is not None
    assert (calendar.frequency, calendar.phase) == ("D", 0)


def test_times_without_a_frequency() -> None:
    times = pd.DatetimeIndex(np.random.default_rng(2).integers(0, 10**15, 500) * 1000 + 1).sort_values()
    assert inferred(times) is None


def test_coarser_frequencies_are_counted_in_periods() -> None:
    assert coarser("D")["W"] == (7,)
    assert coarser("15min")["h"] == (4,)
    assert coarser("D")["2D"] == (2,)
    assert "2W-FRI" in coarser("W-FRI")
    assert seasons("h") == (24, 168)
    assert seasons("15min") == (96,)


DAYS = pd.date_range("2024-01-01", periods=200, freq="D")
DAILY = Calendar("D")


@pytest.mark.parametrize(
    ("extra", "labels_a_day", "expected"),
    [
        ([], 5, "2024-07-18"),
        (["2199-01-01"], 5, "2024-07-18"),
        (["2024-12-01"], 5, "2024-07-18"),
        (["2024-12-01"], 1, "2024-07-18"),
        (["2024-08-01"], 5, "2024-08-01"),  # within a horizon: it may be true
        (["2024-12-01", "2025-12-01"], 5, "2024-07-18"),
    ],
)
def test_a_typing_error_far_ahead_is_not_the_last_label(extra: list[str], labels_a_day: int, expected: str) -> None:
    times = DAYS.append(pd.DatetimeIndex(extra))
    labels = np.array([labels_a_day] * 200 + [1] * len(extra))
    assert last_label(times, labels, DAILY, 28) == pd.Timestamp(expected)


def test_a_fleet_that_was_closed_for_a_while_goes_on() -> None:
    times = DAYS.append(pd.date_range("2024-10-01", periods=2, freq="D"))
    assert last_label(times, np.full(202, 5), DAILY, 28) == times[-1]
