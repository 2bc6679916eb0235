"""The search itself: Optuna asks, Spark's workers try, successive halving prunes; then the best must prove itself.

Everything happens on folds before the holdout. Successive halving, asynchronous: Li et al., "A system for massively
parallel hyperparameter tuning", MLSys 2020; the sampler: Bergstra et al., "Algorithms for hyper-parameter
optimization", NIPS 2011.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assets.models.tuning.sample import REDUCTION, SEARCHED, STEPS, Candidate, Extent, fits_of
from assets.models.tuning.space import Space
from assets.models.tuning.trial import LOST, SearchPlan, SearchTask, tried
from assets.raw.recipe import Recipe
from assets.raw.tuned import with_entries
from resources.spark import Spark
from resources.spread import Say, spread

if TYPE_CHECKING:
    from optuna import Study, Trial

Floats = NDArray[np.float64]
Losses = dict[str, Floats]  # of a trial, by segment, for each of the rounds to stop at
BATCH = 4  # trials that are asked for, and tried, at once
FIRST_AT_RANDOM = 8
STANDARD_ERRORS = 2.0  # by so many the best must win, on segments that it was not chosen on: docs/accuracy.md


@dataclass
class Bench:
    """Where trials are made, and how many fits they may cost, and have cost."""

    spark: Spark
    plan: SearchPlan
    files: dict[int, tuple[str, ...]]
    allowed: int
    spent: int = 0

    def losses(
        self, trials: Sequence[tuple[int, Recipe]], segments: Sequence[Candidate], stops: Sequence[int]
    ) -> dict[int, Losses]:
        """What each trial lost on each segment, by the trial's number."""
        by_bucket: dict[int, set[str]] = {}
        for each in segments:
            by_bucket.setdefault(each.bucket, set()).add(each.segment)
        tasks = [SearchTask(bucket, self.files[bucket], frozenset(keys)) for bucket, keys in sorted(by_bucket.items())]
        work = partial(tried, plan=self.plan, trials=trials, stops=stops)
        found: dict[int, Losses] = {number: {} for number, _ in trials}
        for row in spread(self.spark, tasks, work, LOST).to_pylist():
            found[row["trial"]][row["segment"]] = np.array(row["losses"], dtype=np.float64)
            self.spent += row["fits"]
        return found

    def can_pay(self, trials: int, segments: Sequence[Candidate], reserve: int = 0) -> bool:
        """Whether so many trials on some segments leave the reserve untouched."""
        return self.spent + trials * fits_of(segments) + reserve <= self.allowed


@dataclass
class ClassSearch:
    """The search of one class of segments, whose order is given; `losses` fill up as trials go on.

    What is better by less than `margin`, a share of the defaults' loss, is not adopted: the gate would not promote it.
    """

    bench: Bench
    space: Space
    order: list[Candidate]
    size: Extent
    seed: int
    margin: float = 0.0
    losses: dict[int, Losses] = field(default_factory=dict)
    trials: list[dict[str, Any]] = field(default_factory=list)

    def run(self, say: Say) -> dict[str, Any]:
        """Trials (`trials`), and what came of it: `entry` if it is to be adopted, `share`, `confirmed` and `why`.

        A share is a loss as a part of that of the defaults, on the same segments.
        """
        best = self._search(say)
        entry = {**self.space.entry(best["point"]), "rounds": self._rounds(best)}
        if entry == self.space.entry(self.space.defaults):
            return {"trials": self.trials, "entry": None, "share": 1.0, "why": "nothing was better than the defaults"}
        return {"trials": self.trials, **self._confirmed(entry)}

    def _search(self, say: Say) -> dict[str, Any]:
        """The best of the trials that went through all rungs: the defaults are the first of them."""
        study = _study(self.seed)
        study.enqueue_trial(self.space.defaults)
        self._go_on(study, [study.ask()])
        while len(self.trials) < self.size.trials and (batch := self._affordable(self.size.trials - len(self.trials))):
            self._go_on(study, [study.ask() for _ in range(batch)])
            best = min(trial["share"] for trial in self._finished())
            say(f"{len(self.trials)} of {self.size.trials} trials, {self.bench.spent:,} of {self.bench.allowed:,} fits,"
                f" best {best:.1%} of the defaults' loss")  # fmt: skip
        return min(self._finished(), key=lambda trial: trial["share"])

    def _affordable(self, left: int) -> int:
        """How many trials can begin."""
        reserve = self._reserve(0)
        return next((n for n in range(min(BATCH, left), 0, -1) if self.bench.can_pay(n, self._rung(0), reserve)), 0)

    def _go_on(self, study: Study, batch: list[Trial]) -> None:
        """Takes a batch from rung to rung until each of its trials is pruned, or done."""
        from optuna.trial import TrialState

        points = {trial.number: self.space.asked(trial) for trial in batch}
        shares: dict[int, float] = {}
        reached = dict.fromkeys(points, 0)
        alive = batch
        for rung, step in enumerate(STEPS):
            alive = self._tried(rung, sorted(alive, key=lambda trial: shares.get(trial.number, 1.0)), points)
            for trial in alive:
                reached[trial.number], shares[trial.number] = step, self._share(trial.number, rung)
            alive = [trial for trial in alive if np.isfinite(shares[trial.number])]
            for trial in alive:
                trial.report(shares[trial.number], step)
            if step != STEPS[-1]:
                alive = [trial for trial in alive if not trial.should_prune()]
        for trial in batch:
            share = shares.get(trial.number, float("nan"))
            if trial in alive:
                study.tell(trial, share)
            else:
                study.tell(trial, state=TrialState.PRUNED)
            said = share if np.isfinite(share) else None
            segments = self.size.segments * reached[trial.number]
            self.trials.append({"trial": trial.number, "point": points[trial.number], "share": said,
                                "segments": segments, "finished": trial in alive})  # fmt: skip

    def _tried(self, rung: int, alive: list[Trial], points: dict[int, dict[str, Any]]) -> list[Trial]:
        """Those of the trials, the best first, that the budget lasts for, tried on the segments new on a rung."""
        new = self._rung(rung)
        while alive and not self.bench.can_pay(len(alive), new, self._reserve(rung)):
            alive = alive[:-1]
        if alive:
            recipes = [(each.number, self._recipe(self.space.entry(points[each.number]))) for each in alive]
            for number, losses in self.bench.losses(recipes, new, self.space.rounds).items():
                self.losses.setdefault(number, {}).update(losses)
        return alive

    def _rung(self, rung: int) -> list[Candidate]:
        """The segments that a rung adds to those of the one below."""
        start, end = [0, *(step * self.size.segments for step in STEPS)][rung : rung + 2]
        return self.order[start:end]

    def _share(self, number: int, rung: int) -> float:
        """The least loss of a trial at any of the rounds, as a share of the defaults' at all of them."""
        own, theirs = self._totals(number, STEPS[rung])
        return float(own.min() / theirs[-1]) if theirs[-1] > 0 else float("nan")

    def _rounds(self, trial: dict[str, Any]) -> int | None:
        """After how many rounds a finished trial lost least; None where these are the recipe's."""
        place = int(np.argmin(self._totals(trial["trial"], SEARCHED)[0]))
        return None if place == len(self.space.rounds) - 1 else self.space.rounds[place]

    def _totals(self, number: int, step: int) -> tuple[Floats, Floats]:
        """The losses of a trial and of the defaults, over the segments of a rung that the defaults have one of."""
        keys = [each.segment for each in self.order[: step * self.size.segments]]
        known = [key for key in keys if np.isfinite(self.losses[0][key]).all()]
        own, theirs = (np.array([self.losses[each][key] for key in known]) for each in (number, 0))
        return own.reshape(len(known), -1).sum(axis=0), theirs.reshape(len(known), -1).sum(axis=0)

    def _finished(self) -> list[dict[str, Any]]:
        return [trial for trial in self.trials if trial["finished"]]

    @property
    def _unseen(self) -> list[Candidate]:
        """The segments that the best is confirmed on."""
        return self.order[SEARCHED * self.size.segments : 2 * SEARCHED * self.size.segments]

    def _reserve(self, rung: int) -> int:
        """Fits that one trial needs above a rung, and to confirm it."""
        above = self.order[STEPS[rung] * self.size.segments : SEARCHED * self.size.segments]
        return fits_of(above) + 2 * fits_of(self._unseen)

    def _confirmed(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Whether an entry is better than the defaults on segments that no trial has seen, paired by segment."""
        trials = [(0, self.bench.plan.recipe), (1, self._recipe(entry))]
        found = self.bench.losses(trials, self._unseen, self.space.rounds[-1:])
        keys = [each.segment for each in self._unseen if np.isfinite(found[0][each.segment]).all()]
        theirs, own = (np.array([found[number][key][0] for key in keys]) for number in (0, 1))
        gains = theirs - own
        error = float(gains.std(ddof=1) * len(gains) ** 0.5) if len(gains) > 1 else float("nan")
        total = float(theirs.sum()) or 1.0
        is_better = bool(gains.sum() > max(STANDARD_ERRORS * error, self.margin * total))
        said = "better than the defaults" if is_better else "not clearly better than the defaults"
        return {
            "entry": entry if is_better else None,
            "confirmed": entry,
            "share": float(own.sum()) / total,
            "standard_error": error / total,
            "confirmed_on": len(keys),
            "why": said,
        }

    def _recipe(self, entry: dict[str, Any]) -> Recipe:
        return with_entries(self.bench.plan.recipe, [entry])


def _study(seed: int) -> Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=FIRST_AT_RANDOM)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=STEPS[0], reduction_factor=REDUCTION)
    return optuna.create_study(sampler=sampler, pruner=pruner, direction="minimize")
