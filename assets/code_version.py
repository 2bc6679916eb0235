"""The version of the code that shapes a result: a digest of its modules' source."""

from __future__ import annotations

import hashlib
import importlib.util
from typing import Any


def code_version(*modules: str) -> str:
    """Digest (12 hexadecimal digits) of the named modules' source, without importing them."""
    digest = hashlib.sha256()
    for module in modules:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(module)
        # not from the path: on a cluster's workers the project is a zip
        loader: Any = spec.loader
        digest.update(loader.get_data(spec.origin))
    return digest.hexdigest()[:12]


def version_of(*parts: object) -> str:
    """Digest (16 hexadecimal digits) of what a result was made from; Dagster's data version."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:16]
