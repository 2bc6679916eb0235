"""The sample of segments that a waiting challenger forecasts: the same every week, and a larger one holds a smaller."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

SALT = b"fleet sample"  # another one would deal the segments anew
BITS = 53  # what a float tells apart


def sample_places(keys: Iterable[str]) -> NDArray[np.float64]:
    """A number from 0 to below 1 for each segment, from its key alone: it is in a sample if that is below the share.

    Shadow and split go by the same number, so that of two shares the segments of the smaller are in the larger: all
    that a challenger is served for is also forecast by both.
    """
    digests = (int.from_bytes(blake2b(key.encode(), digest_size=8, salt=SALT).digest(), "big") for key in keys)
    return np.array([digest >> (64 - BITS) for digest in digests], dtype=np.float64) / (1 << BITS)
