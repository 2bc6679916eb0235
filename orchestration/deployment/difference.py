"""What a deployment would change: settings, code, and which models would be trained anew for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from orchestration.deployment.state import State

# in the order of the data: an asset, and the keys that shape what it makes
SHAPED_BY = {
    "raw": ("source",),
    "features": ("segment", "time", "label", "frequency", "horizon", "features", "contract"),
    "segment_models": ("model", "fleet_model", "evaluation"),
    "evaluation": ("evaluation",),
    "champions": ("promotion", "failures"),
    "live_errors": (),
    "drift": ("drift",),
    "forecasts": ("forecasts",),
    "explanations": (),
}
BEFORE_MODELS = ("raw", "features")
MODELS = "segment_models"
# keys within those sections that shape nothing
SHAPES_NOTHING = ("source.path", "source.watch")
LONGEST = 80


@dataclass(frozen=True)
class Difference:
    """Settings that change (key, before, now), assets that change (and why), and what that means for the models."""

    settings: list[tuple[str, Any, Any]]
    assets: dict[str, str]
    retrained: str

    @property
    def is_empty(self) -> bool:
        """Whether nothing changes."""
        return not self.settings and not self.assets


def difference(before: State, now: State, segments: int | None) -> Difference:
    """What changes from one state to another, in a fleet of so many segments (None: not known)."""
    keys = sorted({*before.settings, *now.settings})
    changed = [(key, before.settings.get(key), now.settings.get(key)) for key in keys]
    changed = [(key, old, new) for key, old, new in changed if old != new]
    assets = _assets(before, now, [key for key, _, _ in changed if key not in SHAPES_NOTHING])
    return Difference(changed, assets, _retrained(assets, segments))


def _assets(before: State, now: State, keys: Iterable[str]) -> dict[str, str]:
    """Assets whose code or settings change, and those below the first whose rows do."""
    found: dict[str, str] = {}
    for asset in list(SHAPED_BY) + sorted({*before.code, *now.code} - set(SHAPED_BY)):
        sections = SHAPED_BY.get(asset, ())
        own = [key for key in keys if key.split(".")[0] in sections]
        why = [f"{', '.join(own)} changed"] if own else []
        if before.code.get(asset) != now.code.get(asset):
            why.append(_of_code(before.code.get(asset), now.code.get(asset)))
        if why:
            found[asset] = "; ".join(why)
    return found


def _of_code(before: str | None, now: str | None) -> str:
    if before is None or now is None:
        return "the asset is new" if before is None else "the asset is gone"
    return f"its code changed ({before} to {now})"


def _retrained(assets: dict[str, str], segments: int | None) -> str:
    all_of_them = "all segments" if segments is None else f"all {segments:,} segments"
    if MODELS in assets:
        return f"{all_of_them}, in the next weekly cycle"
    if any(asset in assets for asset in BEFORE_MODELS):
        return f"at most {all_of_them}: each whose features come out otherwise, in the next weekly cycle"
    return "nothing: no model depends on what changed"


def as_lines(found: Difference) -> list[str]:
    """The difference as it is printed."""
    lines = [f"setting {key}: {_shown(old)} -> {_shown(new)}" for key, old, new in found.settings]
    lines += [f"asset {asset}: {why}" for asset, why in found.assets.items()]
    return [*(lines or ["nothing changes"]), f"retrained: {found.retrained}"]


def as_markdown(title: str, found: Difference) -> str:
    """The difference as a page for a job's summary."""
    rows = [f"| `{key}` | {_cell(old)} | {_cell(new)} |" for key, old, new in found.settings]
    settings = ["| setting | before | now |", "|---|---|---|", *rows, ""] if rows else ["No setting changes.", ""]
    assets = [f"- **{asset}**: {why}" for asset, why in found.assets.items()] or ["No asset changes."]
    return "\n".join([f"## {title}", "", f"Retrained: **{found.retrained}**.", "", *settings, *assets, ""])


def _shown(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


def _cell(value: Any) -> str:
    return _shown(value).replace("|", "\\|").replace("\n", " ")
