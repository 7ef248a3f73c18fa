"""Random seeds of the additional streams of a data set."""

from __future__ import annotations

import hashlib


def stream_seed(seed: int, name: str) -> int:
    """The seed of an additional stream: a different one, so that the orders of the streams are independent."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {name}".encode(), digest_size=7).digest(), "big")
