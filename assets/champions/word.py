"""What a person asks for, carried out once: a run that died on the way, and the one that goes on, do it together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import Enum

from assets.champions.approval import approve, reject
from assets.champions.registry import Word, end_challenge, settle
from assets.champions.rollback import few, roll_back, unpin
from assets.code_version import version_of
from assets.evaluation.incumbent import REJECTED, REPLACES, STATUS
from resources.lake import Lake
from resources.mlflow import CHALLENGER, CHAMPION, Mlflow


class Action(Enum):
    """What a run does with the champion."""

    GATE = "gate"
    APPROVE = "approve"
    REJECT = "reject"
    ROLLBACK = "rollback"
    UNPIN = "unpin"


@dataclass(frozen=True)
class Request:
    """What is asked for, of which version (None: the one that waits, or the one before), and by whom."""

    action: Action
    version: int | None
    segments: tuple[str, ...]
    pin_until: date | None
    word: Word

    @property
    def digest(self) -> str:
        """Equal for equal requests."""
        said = (self.action.name, self.version, self.pin_until, self.word.by, self.word.note, *self.segments)
        return version_of(*said)


@dataclass(frozen=True)
class Intent:
    """What a request means at the time it is made: the `version` it is about, and the one that served (none: '')."""

    version: str
    before: str


def intended(mlflow: Mlflow, request: Request) -> Intent:
    """What a request is about, to be noted before anything is done: afterwards 'the one before' is another."""
    champion, waiting = mlflow.aliased(CHAMPION) or {}, mlflow.aliased(CHALLENGER) or {}
    meant = waiting.get("version") if request.action in (Action.APPROVE, Action.REJECT) else champion.get(REPLACES)
    asked = str(request.version) if request.version is not None else meant
    return Intent(asked or "", champion.get("version", ""))


def carried_out(lake: Lake, mlflow: Mlflow, request: Request, intent: Intent, *, resumed: bool) -> str:
    """Does what is asked for, or what a run that died left of it (`resumed`), and says it.

    Raises:
        InputError: it cannot be done; see `approve`, `reject`, `roll_back`, `unpin`.
    """
    version = int(intent.version) if intent.version else None
    if request.action is Action.UNPIN:
        done = unpin(lake, mlflow, request.word, request.segments)
        return f"unpinned: {few(done.segments)} in version {done.version}"
    if request.action is Action.ROLLBACK:
        return _rolled_back(lake, mlflow, request, intent, resumed=resumed)
    if request.action is Action.APPROVE:
        if resumed and _has_moved(mlflow, intent):
            settle(mlflow)
            return f"approved: version {intent.version}"
        return f"approved: version {approve(lake, mlflow, version, request.word)}"
    if resumed and (mlflow.version(intent.version) or {}).get(STATUS) == REJECTED:
        end_challenge(mlflow, intent.version, REJECTED, request.word)
        return f"rejected: version {intent.version}"
    return f"rejected: version {reject(mlflow, version, request.word)}"


def _rolled_back(lake: Lake, mlflow: Mlflow, request: Request, intent: Intent, *, resumed: bool) -> str:
    version = int(intent.version) if intent.version else None
    if request.segments:
        # made of the same rows again it is the same version again
        done = roll_back(lake, mlflow, request.word, version, request.segments, request.pin_until)
        return f"rolled back: {few(done.segments)} to version {done.to}, as version {done.version}"
    if resumed and _has_moved(mlflow, intent):
        settle(mlflow)
    else:
        roll_back(lake, mlflow, request.word, version, (), request.pin_until)
    return f"rolled back: from version {intent.before} to version {intent.version}"


def _has_moved(mlflow: Mlflow, intent: Intent) -> bool:
    return (mlflow.aliased(CHAMPION) or {}).get("version", "") == intent.version != intent.before
