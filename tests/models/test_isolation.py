"""Work in a child process: whatever an item does to its process, every item comes back once, in order."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.models.isolation import Lost, isolated

PATIENT = 60.0


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang() -> None:
    threading.Event().wait()


def counted(folder: Path, work: Callable[[int], Any]) -> Callable[[int], Any]:
    """Work that leaves a byte for each attempt at an item, whatever becomes of its process."""

    def attempt(item: int) -> Any:
        with (folder / str(item)).open("a") as file:
            file.write(".")
        return work(item)

    return attempt


def attempts(folder: Path) -> dict[int, int]:
    return {int(path.name): path.stat().st_size for path in folder.iterdir()}


def test_results_come_in_the_order_of_the_items(tmp_path: Path) -> None:
    items = [5, 3, 9, 0, 7]
    found = list(isolated(counted(tmp_path, lambda item: item * 10), items, time_limit=PATIENT))
    assert found == [(item, item * 10) for item in items]
    assert attempts(tmp_path) == dict.fromkeys(items, 1)
    assert items == [5, 3, 9, 0, 7]


def test_all_items_share_one_child_that_is_not_this_process() -> None:
    workers = {pid for _, pid in isolated(lambda _: os.getpid(), range(20), time_limit=PATIENT)}
    assert len(workers) == 1
    assert workers != {os.getpid()}


def test_nothing_to_do_starts_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: pytest.fail("a child was started"))
    assert list(isolated(lambda item: item, [], time_limit=PATIENT)) == []


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_an_item_that_kills_its_child_is_lost_alone_after_its_retries(tmp_path: Path, retries: int) -> None:
    work = counted(tmp_path, lambda item: die() if item == 2 else item)
    found = dict(isolated(work, range(5), time_limit=PATIENT, retries=retries))
    assert list(found) == [0, 1, 2, 3, 4]
    assert isinstance(found[2], Lost)
    assert "signal 9" in found.pop(2).reason
    assert found == {item: item for item in (0, 1, 3, 4)}
    tried = attempts(tmp_path)
    assert tried.pop(2) == 1 + retries
    assert tried.pop(0) == tried.pop(1) == 1
    assert set(tried) == {3, 4}


def test_an_item_that_hangs_is_lost_alone(tmp_path: Path) -> None:
    work = counted(tmp_path, lambda item: hang() if item == 1 else item)
    found = dict(isolated(work, range(3), time_limit=0.5, retries=1))
    assert "took longer than 0.5 s" in found.pop(1).reason
    assert found == {0: 0, 2: 2}
    assert attempts(tmp_path)[1] == 2
    assert not multiprocessing.active_children()


def test_what_works_the_second_time_is_not_lost(tmp_path: Path) -> None:
    def once(item: int) -> int:
        if item == 1 and not (tmp_path / "died").exists():
            (tmp_path / "died").touch()
            die()
        return item

    assert list(isolated(once, range(3), time_limit=PATIENT, retries=1)) == [(0, 0), (1, 1), (2, 2)]
    assert (tmp_path / "died").exists()


def raised() -> None:
    raise SystemExit(3)


def unsendable() -> Any:
    return threading.Lock()


def segmentation_fault() -> None:
    faulthandler.disable()  # what pytest would print is no news
    os.kill(os.getpid(), signal.SIGSEGV)


def wrong() -> None:
    raise ValueError("no such number")


WAYS: dict[str, tuple[Callable[[], Any], str]] = {
    "sys.exit": (lambda: sys.exit(3), "exit code 3"),
    "SystemExit": (raised, "exit code 3"),
    "os._exit": (lambda: os._exit(4), "exit code 4"),
    "os._exit of nothing": (lambda: os._exit(0), "exit code 0"),
    "segmentation fault": (segmentation_fault, "signal 11, SIGSEGV"),
    "a signal without a name": (lambda: os.kill(os.getpid(), signal.SIGRTMIN + 1), f"signal {signal.SIGRTMIN + 1}"),
    "an exception": (wrong, "exit code 1"),
    "what no pipe takes": (unsendable, "exit code 1"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_child_that_ends_is_lost_with_its_cause(way: str, capfd: pytest.CaptureFixture[str]) -> None:
    end, said = WAYS[way]
    found = dict(isolated(lambda item: end() if item == 0 else item, range(2), time_limit=PATIENT, retries=0))
    assert said in found[0].reason
    assert found[1] == 1


def test_a_child_killed_while_it_sends_loses_only_what_it_sent() -> None:
    """As the kernel kills for want of memory: half of a large model is in the pipe when its process goes."""

    def work(item: int) -> Any:
        if item != 1:
            return item
        threading.Timer(0.5, die).start()
        return bytes(20_000_000)

    run = isolated(work, range(3), time_limit=PATIENT, retries=0)
    assert next(run) == (0, 0)
    (child,) = multiprocessing.active_children()
    child.join(PATIENT)
    key, outcome = next(run)
    assert key == 1
    assert isinstance(outcome, Lost)
    assert "signal 9" in outcome.reason
    assert list(run) == [(2, 2)]


def test_large_results_arrive_whole() -> None:
    sizes = [0, 70_000, 3_000_000, 1]
    found = isolated(lambda item: bytes(sizes[item]), range(len(sizes)), time_limit=PATIENT)
    assert [len(value) for _, value in found] == sizes


def test_who_stops_asking_leaves_no_child_behind() -> None:
    run = isolated(lambda item: item, range(100), time_limit=PATIENT)
    assert next(run) == (0, 0)
    run.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


@settings(max_examples=25)
@given(
    items=st.lists(st.integers(0, 30), unique=True, max_size=12),
    deadly=st.sets(st.integers(0, 30)),
    retries=st.integers(0, 2),
)
def test_any_set_of_deadly_items_every_item_comes_once_in_order(
    items: list[int], deadly: set[int], retries: int
) -> None:
    work = lambda item: die() if item in deadly else -item  # noqa: E731
    found = list(isolated(work, items, time_limit=PATIENT, retries=retries))
    assert [item for item, _ in found] == items
    for item, outcome in found:
        assert isinstance(outcome, Lost) if item in deadly else outcome == -item
