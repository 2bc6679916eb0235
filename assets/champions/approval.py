"""A version that waits for a person: approved, rejected, or expired."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from assets.champions.registry import COMPARED_WITH, Word, end_challenge, make_champion, now, settle
from assets.evaluation.incumbent import (
    APPROVED,
    EXPIRED,
    PENDING,
    REJECTED,
    SHADOW,
    STATUS,
    SUPERSEDED,
    published_fleet,
)
from resources.lake import Lake
from resources.mlflow import CHALLENGER, CHAMPION, Mlflow
from resources.problems import InputError, Problem

EXPIRES_AT = "expires_at"


def expiry(days: float) -> dict[str, str]:
    """The tag that says until when a version waits."""
    return {EXPIRES_AT: (now() + timedelta(days=days)).isoformat()}


def expire(mlflow: Mlflow) -> str | None:
    """Ends the challenge of the version that waits if its time is over; gives its number if it did."""
    waiting = mlflow.aliased(CHALLENGER)
    if waiting is None or waiting.get(STATUS) != PENDING or not _is_over(waiting):
        return None
    end_challenge(mlflow, waiting["version"], EXPIRED, Word("fleet", f"nobody decided until {waiting[EXPIRES_AT]}"))
    return waiting["version"]


def approve(lake: Lake, mlflow: Mlflow, version: int | None, word: Word) -> str:
    """Makes the version that waits the champion; gives its number.

    Raises:
        InputError: it does not wait (any more), was compared with another champion than serves now, or is not whole.
    """
    # one that is approved and still waits is what a run left that died before the alias moved, or just after
    tags = _waiting(mlflow, version, word, "approve", (PENDING, APPROVED))
    where, number = f"version {tags['version']}", tags["version"]
    champion = mlflow.aliased(CHAMPION)
    serves = champion["version"] if champion else ""
    if serves == number:
        settle(mlflow)
        return number
    if tags[COMPARED_WITH] != serves:
        what = f"was compared with version {tags[COMPARED_WITH] or 'none'}, and version {serves or 'none'} serves now"
        end_challenge(mlflow, number, SUPERSEDED, Word(word.by, what))
        raise InputError([Problem(where, what, "run the weekly cycle: its challenger is compared with what serves")])
    fleet = published_fleet(lake, tags, never_served=True)
    if isinstance(fleet, str):
        raise InputError([Problem(where, fleet, "run the weekly cycle: fleet run")])
    make_champion(mlflow, number, word)
    return number


def reject(mlflow: Mlflow, version: int | None, word: Word) -> str:
    """Refuses the version that waits for approval, or forecasts beside the champion, for good; gives its number.

    Raises:
        InputError: it does not wait (any more).
    """
    number = _waiting(mlflow, version, word, "reject", (PENDING, SHADOW, REJECTED))["version"]
    end_challenge(mlflow, number, REJECTED, word)
    return number


def _waiting(mlflow: Mlflow, version: int | None, word: Word, what: str, statuses: tuple[str, ...]) -> dict[str, Any]:
    if not word.by.strip():
        raise InputError([Problem("by", f"nobody is named who would {what} it", "say who: --by NAME")])
    expire(mlflow)
    waiting = mlflow.aliased(CHALLENGER)
    pending = waiting["version"] if waiting is not None and waiting.get(STATUS) in statuses else None
    asked = str(version) if version is not None else pending
    tags = mlflow.version(asked) if asked else None
    remedy = f"version {pending} waits" if pending else "no version waits: run the weekly cycle"
    if tags is None:
        raise InputError([Problem(f"version {version or ''}".strip(), "is not registered", remedy)])
    if asked != pending:
        raise InputError([Problem(f"version {asked}", f"does not wait for approval: {_said(tags)}", remedy)])
    return dict(tags)


def _said(tags: dict[str, str]) -> str:
    status = tags.get(STATUS, "approved")
    by, at = (tags.get(f"{status}_{name}") for name in ("by", "at"))
    return f"it is {status}" + (f" by {by}" if by else "") + (f", {at}" if at else "")


def _is_over(tags: Any) -> bool:
    return EXPIRES_AT in tags and now() > datetime.fromisoformat(tags[EXPIRES_AT])
