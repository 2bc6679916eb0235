"""Messages on their way: a sensor keeps in its cursor what a receiver has not taken yet, and tries again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from dagster import SensorEvaluationContext, SkipReason

from resources.notifier import Message, Notifier

Say = Callable[[str], None]
MOST_WAITING = 100
FIRST_WAIT, LONGEST_WAIT = 60.0, 3_600.0  # seconds; each wait is twice the one before
GIVEN_UP_AFTER = 86_400.0
# a sensor has a minute, and a receiver that hangs takes eight seconds of it
SECONDS_A_LOOK = 20.0


@dataclass(frozen=True)
class Letter:
    """A message and the names of the receivers that have not taken it; times are seconds since 1970."""

    message: Message
    to: tuple[str, ...]
    since: float
    tries: int = 0
    due: float = 0.0


@dataclass
class Cursor:
    """What a sensor remembers: its own `place`, and the letters that wait. It survives a restart of the daemon."""

    place: dict[str, Any] = field(default_factory=dict)
    waiting: list[Letter] = field(default_factory=list)

    @classmethod
    def read(cls, text: str | None) -> Cursor:
        """The cursor as it was written; an empty one where there is none."""
        said = json.loads(text) if text else {}
        letters = [
            Letter(**{**letter, "message": Message(**letter["message"]), "to": tuple(letter["to"])})
            for letter in said.get("waiting", [])
        ]
        return cls(said.get("place", {}), letters)

    def written(self) -> str:
        """The cursor as text."""
        return json.dumps({"place": self.place, "waiting": [asdict(letter) for letter in self.waiting]})


def tell(
    context: SensorEvaluationContext, notifier: Notifier, cursor: Cursor, messages: Sequence[Message], nothing: str
) -> SkipReason:
    """Sends new messages and those that wait, keeps the cursor, and gives what the sensor's tick says.

    A receiver gets a message once; only a sensor that is killed between sending and the end of its tick sends it again.
    """
    receivers, now = tuple(notifier.receivers()), time.time()
    cursor.waiting += [Letter(message, receivers, now) for message in messages]
    sent = deliver(cursor, notifier, now, context.log.warning)
    context.update_cursor(cursor.written())
    said = [f"told: {title}" for title in sent]
    said += [f"not told yet: {letter.message.title}" for letter in cursor.waiting]
    return SkipReason("; ".join(said) or nothing)


def deliver(cursor: Cursor, notifier: Notifier, now: float, say: Say) -> list[str]:
    """Tries the letters that are due, keeps those that are still to be taken, and gives the titles of the others."""
    sent, kept, began = [], [], time.monotonic()
    for letter in cursor.waiting:
        hurried = time.monotonic() - began > SECONDS_A_LOOK
        left = letter if hurried or letter.due > now else _tried(letter, notifier, now, say)
        if not left.to:
            sent.append(letter.message.title)
        elif now - left.since > GIVEN_UP_AFTER:
            say(f"given up after a day: {letter.message.title!r} for {', '.join(left.to)}")
        else:
            kept.append(left)
    if len(kept) > MOST_WAITING:
        say(f"given up, because more than {MOST_WAITING} messages wait: the {len(kept) - MOST_WAITING} oldest")
    cursor.waiting = kept[-MOST_WAITING:]
    return sent


def _tried(letter: Letter, notifier: Notifier, now: float, say: Say) -> Letter:
    known, left = notifier.receivers(), []
    for name in letter.to:
        # one that is no longer configured waits for nothing
        problem = notifier.send(letter.message, known[name]) if name in known else None
        if problem is not None:
            say(f"{name} has not taken {letter.message.title!r}: {problem}; tried again later")
            left.append(name)
    wait = min(FIRST_WAIT * 2**letter.tries, LONGEST_WAIT)
    return replace(letter, to=tuple(left), tries=letter.tries + 1, due=now + wait)
