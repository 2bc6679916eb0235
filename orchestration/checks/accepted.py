"""`checks.lock.json`: what was accepted of the fixed table, reviewed like code, and what has become worse since."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from resources.problems import InputError, Problem

LOCK = "checks.lock.json"
WHO = ("served", "challenger", "fleet", "incumbent", "baseline")


class Accepted(BaseModel):
    """`table`: digest of the fixed table's rows; `errors` by who made them; `tolerance`: share that one may rise by."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: str
    metric: str
    errors: dict[str, float]
    checks: list[str]
    tolerance: Annotated[float, Field(ge=0)] = 0.01


def found_now(table: str, evaluation: dict[str, Any], checks: Iterable[str], before: Accepted | None) -> Accepted:
    """What there is to accept of a run, from its evaluation's record; the tolerance stays as it was."""
    errors = {who: round(error, 6) for who in WHO if (error := evaluation["errors"].get(who)) is not None}
    kept = {} if before is None else {"tolerance": before.tolerance}
    return Accepted(table=table, metric=evaluation["metric"], errors=errors, checks=sorted(checks), **kept)


def read_accepted(file: Path) -> Accepted | None:
    """What was accepted; None if nothing was yet.

    Raises:
        InputError: the file is none that `--accept` writes.
    """
    if not file.exists():
        return None
    try:
        return Accepted.model_validate_json(file.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        first = str(error).splitlines()[0]
        raise InputError(
            [Problem(file.name, f"cannot be read: {first}", "restore it, or write it with --accept")]
        ) from None


def write_accepted(file: Path, accepted: Accepted) -> None:
    """Writes what is accepted, as people review it: a line a fact."""
    file.write_text(json.dumps(accepted.model_dump(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def worse_than_accepted(accepted: Accepted, now: Accepted) -> list[str]:
    """Why what was found may not replace what was accepted: other rows, a check that is gone, a higher error."""
    found = [f"the check {name} was dropped" for name in accepted.checks if name not in now.checks]
    if now.table != accepted.table:
        found.append(f"the fixed table has other rows ({now.table}) than those accepted ({accepted.table})")
    if now.metric != accepted.metric:
        return [*found, f"judged by {now.metric}, accepted by {accepted.metric}"]
    for who, error in accepted.errors.items():
        most, mine = error * (1 + accepted.tolerance), now.errors.get(who)
        if mine is None:
            found.append(f"there is no {now.metric} of {who} any more, accepted was {error:.4f}")
        elif not mine <= most:
            more = f"accepted was {error:.4f}, with a tolerance of {accepted.tolerance:.1%}"
            found.append(f"{now.metric} of {who} is {mine:.4f}: {more}")
    return found


def better_than_accepted(accepted: Accepted, now: Accepted) -> list[str]:
    """What could be accepted anew: checks that are new, errors that fell by more than the tolerance."""
    found = [f"the check {name} is new" for name in now.checks if name not in accepted.checks]
    for who, error in accepted.errors.items():
        if now.metric == accepted.metric and now.errors.get(who, error) < error * (1 - accepted.tolerance):
            found.append(f"{now.metric} of {who} fell from {error:.4f} to {now.errors[who]:.4f}")
    return found
