"""Several Spark jobs at the same time."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pyspark import SparkContext

    from resources.spark import Spark

Result = TypeVar("Result")
SUBMITTED_IN = 30.0


def at_once(spark: Spark, actions: Sequence[Callable[[], Result]]) -> list[Result]:
    """What some actions gave, each a Spark job, all at work at once; the first to be named has the first call on cores.

    Spark serves jobs in the order of their submission, and a later one with what the earlier cannot use. Where one
    fails, the others are ended.
    """
    if len(actions) == 1:
        return [actions[0]()]
    context, group = spark.session().sparkContext, uuid.uuid4().hex
    with ThreadPoolExecutor(len(actions)) as threads:
        started: list[Future[Result]] = []
        for number, action in enumerate(actions):
            own = f"{group}-{number}"
            started.append(threads.submit(_in_group, context, own, action))
            _wait_until_submitted(context, own, started[-1])
        done, _ = wait(started, return_when=FIRST_EXCEPTION)
        if any(future.exception() for future in done):
            for number in range(len(actions)):
                context.cancelJobGroup(f"{group}-{number}")
        return [future.result() for future in started]


def _in_group(context: SparkContext, group: str, action: Callable[[], Result]) -> Result:
    context.setJobGroup(group, "one of several at once")
    return action()


def _wait_until_submitted(context: SparkContext, group: str, job: Future[Result]) -> None:
    end = time.monotonic() + SUBMITTED_IN
    while not job.done() and not context.statusTracker().getJobIdsForGroup(group) and time.monotonic() < end:
        time.sleep(0.02)
