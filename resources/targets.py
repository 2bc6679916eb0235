"""The targets of `fleet.yaml`: what is different in `dev`, `staging`, `prod`, or any other place that a fleet runs in.

A target's keys are laid over the document in depth before it is validated: mappings are merged, anything else is
replaced, and `null` takes a key away, so that its default counts. `dev` is private to each user unless it says
otherwise: name and lake carry the user's name, and nothing runs by itself.
"""

from __future__ import annotations

import difflib
import getpass
from typing import Any

from resources.document import Lines
from resources.environment import REFERENCE
from resources.problems import InputError, Problem
from resources.settings import name_from

TARGETS, DEV = "targets", "dev"
DEFAULT_LAKE = "data/lake"
LONGEST_USER = 30
EXAMPLE = "write targets: {dev: {}, prod: {lake: /srv/fleet}}"


def target_names(document: Any) -> list[str]:
    """The targets that a document has, in its order; none if it has no mapping of them."""
    found = document.get(TARGETS) if isinstance(document, dict) else None
    return [str(name) for name in found] if isinstance(found, dict) else []


def with_target(document: dict[str, Any], lines: Lines, target: str | None, name: str) -> dict[str, Any]:
    """The document as it is for a target, or without one; the lines of what the target says become the keys' lines.

    Raises:
        InputError: there is no such target, or `targets` is no mapping of mappings; all mistakes.
    """
    targets = document.get(TARGETS)
    if problems := _misshapen(document, lines, name):
        raise InputError(problems)
    plain = {key: value for key, value in document.items() if key != TARGETS}
    if target is None:
        return plain
    if target not in (targets or {}):
        raise InputError([_unknown(target, list(targets or {}), name)])
    override = (targets or {})[target] or {}
    _lay_over(lines, f"{TARGETS}.{target}.")
    merged = merged_in_depth(plain, override)
    return _private(merged, override) if target == DEV else merged


def merged_in_depth(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid over `under`: mappings in depth, other values replaced, keys with `null` taken away."""
    merged = {key: value for key, value in under.items() if key not in over}
    for key, value in over.items():
        below = under.get(key)
        if isinstance(value, dict):
            merged[key] = merged_in_depth(below if isinstance(below, dict) else {}, value)
        elif value is not None:
            merged[key] = value
    return merged


def _lay_over(lines: Lines, prefix: str) -> None:
    for key in [key for key in lines if key.startswith(prefix)]:
        plain = key.removeprefix(prefix)
        lines[plain] = lines[key]
        lines.written[plain] = key


def _private(merged: dict[str, Any], override: dict[str, Any]) -> dict[str, Any]:
    """What keeps two people apart: name and lake of their own, and nothing that runs unasked; `override` goes first."""
    user = _user()
    quiet: dict[str, Any] = {"schedule": {"enabled": False}, "drift": {"retrain": False}, "source": {"watch": False}}
    own = {key: value for key, value in quiet.items() if isinstance(merged.get(key, {}), dict)}
    if "name" not in override and isinstance(merged.get("name"), str):
        own["name"] = f"{user}_{merged['name']}"
    lake = merged.get("lake", DEFAULT_LAKE)
    if "lake" not in override and isinstance(lake, str):
        parent, slash, last = lake.rstrip("/").rpartition("/")
        # what a reference holds is not known here
        own["lake"] = f"{lake}_{user}" if REFERENCE.search(last) else f"{parent}{slash}{user}_{last}"
    return merged_in_depth(merged_in_depth(merged, own), override)


def _user() -> str:
    try:
        return name_from(getpass.getuser())[:LONGEST_USER]
    except (OSError, KeyError):  # an account without a name, as in some containers
        raise InputError([Problem("target dev", "is a user's own, and you have no name", "export USER")]) from None


def _misshapen(document: dict[str, Any], lines: Lines, name: str) -> list[Problem]:
    targets = document.get(TARGETS)
    if targets is None:
        return []
    if not isinstance(targets, dict):
        return [Problem(lines.where(TARGETS, name), f"is no mapping, got {targets!r}", EXAMPLE)]
    remedy = "write keys of fleet.yaml under it, such as lake: /srv/fleet"
    wrong = {f"{TARGETS}.{each}": own for each, own in targets.items() if not isinstance(own, dict | None)}
    found = [Problem(lines.where(key, name), f"is no mapping, got {own!r}", remedy) for key, own in wrong.items()]
    nested = [
        f"{TARGETS}.{each}.{TARGETS}" for each, own in targets.items() if isinstance(own, dict) and TARGETS in own
    ]
    return found or [Problem(lines.where(key, name), "has no targets of its own", "remove it") for key in nested]


def _unknown(target: str, known: list[str], name: str) -> Problem:
    if not known:
        return Problem(f"target {target}", f"{name} has no targets", EXAMPLE)
    near = difflib.get_close_matches(target, known, n=1)
    remedy = f"did you mean {near[0]}?" if near else f"known targets: {', '.join(known)}"
    return Problem(f"target {target}", f"is none of {name}", remedy)
