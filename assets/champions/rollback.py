"""Rollback: an earlier version serves again, whole or for some segments, which may be pinned to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from assets.champions.listing import with_rows_of, without_pins
from assets.champions.registry import Fleet, Word, make_champion, now, register, withdraw
from assets.evaluation.incumbent import PUBLISHED, REPLACES, Champion, published_fleet, standing
from resources.lake import Lake
from resources.mlflow import CHAMPION, Mlflow
from resources.problems import InputError, Problem

FEW = 5
# what a version that is made of two is described by: the one that it is mostly made of
INHERITED = ("evaluation", "training", "raw_digest", "recipe_digest", "configuration_digest", "trained_through")


@dataclass(frozen=True)
class Rollback:
    """What was rolled back: from which version to which, which segments (all: none named), and what serves now."""

    before: str
    to: str
    segments: tuple[str, ...]
    version: str


def roll_back(
    lake: Lake,
    mlflow: Mlflow,
    word: Word,
    to: int | None = None,
    segments: Sequence[str] = (),
    pin_until: date | None = None,
) -> Rollback:
    """Lets version `to` (by default the one that the champion replaced) serve again, all of it or just some segments.

    The whole fleet: the alias moves, and the version rolled back from is `withdrawn`. Some segments: a version is made
    of the champion with their rows from version `to`; rows that are those of a version already are that version again.

    Raises:
        InputError: nobody is named, there is no champion, no such version, one that never served or is not whole, a
            segment that it does not know, a pin without segments or in the past.
    """
    named = mlflow.aliased(CHAMPION)
    if named is None:
        raise InputError([Problem(f"fleet {mlflow.experiment}", "has no champion yet", "run the weekly cycle")])
    _refuse_impossible(word, segments, pin_until)
    target = _target(lake, mlflow, named, to)
    number = str(target.version)
    if not segments:
        if number == named["version"]:
            raise InputError([Problem(f"version {number}", "serves already", "name another with --to")])
        withdraw(mlflow, named["version"], Word(word.by, word.note or f"rolled back to version {number}"))
        make_champion(mlflow, number, word, "restored")
        return Rollback(named["version"], number, (), number)
    serving = standing(lake, mlflow).champion
    assert serving is not None, "the target can serve"
    listing = with_rows_of(serving.listing, target.listing, segments, pin_until, f"version {number}")
    pinned = f", pinned until {pin_until}" if pin_until else ""
    made = register(lake, mlflow, _made_of(serving, listing, f"{few(segments)} as in version {number}{pinned}", word))
    make_champion(mlflow, made, word, "restored")
    return Rollback(named["version"], number, tuple(dict.fromkeys(segments)), made)


def unpin(lake: Lake, mlflow: Mlflow, word: Word, segments: Sequence[str]) -> Rollback:
    """Lets some segments follow the weekly cycle again; who serves them stays until it decides.

    Raises:
        InputError: nobody is named, there is no champion, no segment is named, or one that it does not know.
    """
    serving = standing(lake, mlflow).champion
    if serving is None:
        raise InputError([Problem(f"fleet {mlflow.experiment}", "has no champion yet", "run the weekly cycle")])
    _refuse_impossible(word, segments, None)
    if not segments:
        raise InputError([Problem("unpin", "no segment is named", "name some with --segment")])
    number = str(serving.version)
    listing = without_pins(serving.listing, segments, f"version {number}")
    made = register(lake, mlflow, _made_of(serving, listing, f"{few(segments)} pinned no more", word))
    make_champion(mlflow, made, word, "restored")
    return Rollback(number, number, tuple(dict.fromkeys(segments)), made)


def _made_of(serving: Champion, listing: pa.Table, how: str, word: Word) -> Fleet:
    """A version like the one that serves, but for some of its rows."""
    said = f"Version {serving.version} with {how}; by {word.by}" + (f": {word.note}" if word.note else "")
    tags = {name: serving.tags[name] for name in INHERITED if name in serving.tags}
    return Fleet(listing, tags, said, {"training": serving.tags["training"], "made_of": serving.version, "how": how})


def few(segments: Sequence[str]) -> str:
    """How many segments, and the first of them by name."""
    named = ", ".join(segments[:FEW]) + (", ..." if len(segments) > FEW else "")
    noun = "segment" if len(segments) == 1 else "segments"
    return f"{len(segments):,} {noun} ({named})"


def _target(lake: Lake, mlflow: Mlflow, named: Mapping[str, str], to: int | None) -> Champion:
    known = {tags["version"]: tags for tags in mlflow.versions()}
    before = known[named["version"]].get(REPLACES)
    asked = str(to) if to is not None else before
    ours = ", ".join(number for number, tags in known.items() if PUBLISHED in tags)
    if asked is None:
        what = f"version {named['version']} replaced no other"
        raise InputError([Problem("rollback", what, f"name a version with --to: {ours}")])
    if asked not in known:
        raise InputError([Problem(f"version {asked}", "is not registered", f"registered: {ours}")])
    found = published_fleet(lake, known[asked])
    if isinstance(found, str):
        raise InputError([Problem(f"version {asked}", f"cannot serve: {found}", f"name another with --to: {ours}")])
    return found


def _refuse_impossible(word: Word, segments: Sequence[str], pin_until: date | None) -> None:
    problems = []
    if not word.by.strip():
        problems.append(Problem("by", "nobody is named who rolls back", "say who: --by NAME"))
    if pin_until is not None and not segments:
        problems.append(Problem("pin_until", "a pin is for segments, and none is named", "name some with --segment"))
    if pin_until is not None and pin_until < now().date():
        problems.append(Problem("pin_until", f"{pin_until} is over", "name a day to come, such as 2030-01-31"))
    if problems:
        raise InputError(problems)
