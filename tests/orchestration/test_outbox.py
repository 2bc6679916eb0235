"""Messages on their way: kept over a restart, tried again ever more rarely, given up after a day."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.sensors.outbox import GIVEN_UP_AFTER, LONGEST_WAIT, MOST_WAITING, Cursor, Letter, deliver
from resources.notifier import Message, Notifier, Receiver

A, B = "receiver 1 (json)", "receiver 2 (json)"


class Post(Notifier):
    """A notifier of two receivers that are down when they are said to be, and count what they took."""

    down: list[str]
    took: list[str]

    def send(self, message: Message, receiver: Receiver) -> str | None:
        if receiver.name in self.down:
            return "down"
        self.took.append(f"{receiver.name}: {message.title}")
        return None


def post(*down: str) -> Post:
    return Post(urls="json://a json://b", down=list(down), took=[])


def letters(count: int = 1) -> Cursor:
    return Cursor(waiting=[Letter(Message(f"m{n}", "x"), (A, B), since=0.0) for n in range(count)])


def test_each_receiver_takes_a_message_once_whichever_is_down_meanwhile() -> None:
    notifier, cursor, said = post(A), letters(), []
    assert deliver(cursor, notifier, 0.0, said.append) == []
    assert said == [f"{A} has not taken 'm0': down; tried again later"]
    notifier.down.clear()
    assert deliver(cursor, notifier, 1.0, said.append) == []  # it is not time yet
    assert deliver(cursor, notifier, 60.0, said.append) == ["m0"]
    assert deliver(cursor, notifier, 1e4, said.append) == []
    assert notifier.took == [f"{B}: m0", f"{A}: m0"]


def test_it_is_tried_ever_more_rarely_and_given_up_after_a_day() -> None:
    notifier, cursor, said = post(A, B), letters(), []
    tries, now = [], 0.0
    while cursor.waiting:
        before = cursor.waiting[0].tries
        deliver(cursor, notifier, now, said.append)
        if not cursor.waiting or cursor.waiting[0].tries > before:
            tries.append(now)
        now += 30.0
    waits = [later - sooner for sooner, later in itertools.pairwise(tries)]
    assert waits[:4] == [60.0, 120.0, 240.0, 480.0]
    assert max(waits[:-1]) == LONGEST_WAIT
    assert now > GIVEN_UP_AFTER
    assert said[-1] == f"given up after a day: 'm0' for {A}, {B}"


def test_a_receiver_that_is_configured_no_more_is_waited_for_no_more() -> None:
    cursor = Cursor(waiting=[Letter(Message("m", "x"), ("receiver 7 (slack)",), since=0.0)])
    assert deliver(cursor, post(), 0.0, lambda _: None) == ["m"]


def test_only_so_many_wait() -> None:
    cursor, said = letters(MOST_WAITING + 5), []
    deliver(cursor, post(A, B), 0.0, said.append)
    assert [letter.message.title for letter in cursor.waiting][:1] == ["m5"]
    assert len(cursor.waiting) == MOST_WAITING
    assert said[-1].endswith("the 5 oldest")


def test_a_look_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 9))
    monkeypatch.setattr("orchestration.sensors.outbox.time.monotonic", lambda: float(next(clock)))
    cursor, notifier = letters(10), post()
    deliver(cursor, notifier, 0.0, lambda _: None)
    assert len(notifier.took) == 4  # two letters, for two receivers
    assert len(cursor.waiting) == 8


TEXT = st.text(max_size=5)


@given(
    st.dictionaries(TEXT, st.integers() | TEXT | st.lists(TEXT)),
    st.lists(st.builds(Letter, st.builds(Message, TEXT, TEXT, st.booleans()), st.tuples(TEXT), st.floats(0, 1e9))),
)
def test_a_cursor_comes_back_as_it_was_written(place: dict[str, object], waiting: list[Letter]) -> None:
    assert Cursor.read(Cursor(place, waiting).written()) == Cursor(place, waiting)


def test_there_is_nothing_in_a_cursor_at_first() -> None:
    assert Cursor.read(None) == Cursor.read("") == Cursor()
