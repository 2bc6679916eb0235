"""The GPUs of this machine, as a discovery script names them to Spark."""

from __future__ import annotations

import json
import subprocess
from functools import lru_cache

from resources.problems import InputError, Problem

FOUND_IN = 60.0
WHERE = "gpu.discovery_script"
REMEDY = 'let it print {"name": "gpu", "addresses": ["0", "1"]}'


@lru_cache
def discovered(script: str | None) -> tuple[str, ...]:
    """Addresses of this machine's GPUs, at least one; without a script the first device is meant.

    What a script prints: https://spark.apache.org/docs/latest/configuration.html#custom-resource-scheduling

    Raises:
        InputError: the script cannot be run, fails, prints something else, or names no GPU.
    """
    if script is None:
        return ("0",)
    try:
        done = subprocess.run([script], capture_output=True, text=True, timeout=FOUND_IN, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError([Problem(WHERE, f"{script} cannot be run: {error}", "correct it")]) from None
    if done.returncode:
        what = f"{script} failed with exit code {done.returncode}: {done.stderr.strip()[-300:]}"
        raise InputError([Problem(WHERE, what, "run it by hand, and mend what it says")])
    return _addresses(script, done.stdout)


def _addresses(script: str, said: str) -> tuple[str, ...]:
    try:
        offer = json.loads(said)
        name, addresses = offer["name"], [str(address) for address in offer["addresses"]]
    except (ValueError, TypeError, KeyError):
        raise InputError([Problem(WHERE, f"{script} printed {said[:200]!r}", REMEDY)]) from None
    if name != "gpu" or not addresses:
        raise InputError([Problem(WHERE, f"{script} offers no GPU: {said[:200].strip()}", REMEDY)])
    if not all(address.isdecimal() for address in addresses):
        raise InputError([Problem(WHERE, f"{script} names devices that are no numbers: {addresses}", REMEDY)])
    return tuple(addresses)
