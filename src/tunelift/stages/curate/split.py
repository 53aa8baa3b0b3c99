"""Which split a row falls into: by a hash of its group alone, so adding rows moves no other row."""

from __future__ import annotations

import hashlib

from tunelift.config.schema import SplitConfig

SPLITS = ("train", "validation", "test")


def split_of(group: str, config: SplitConfig, seed: int) -> str:
    """The split of a group: the first 8 bytes of sha256(seed, group) as a fraction, cut at the shares."""
    value = hashlib.sha256(f"{seed}\0{group}".encode()).digest()[:8]
    fraction = int.from_bytes(value, "big") / 2**64
    if fraction < config.test:
        return "test"
    return "validation" if fraction < config.test + config.validation else "train"


def short_hash(text: str) -> str:
    """16 hexadecimal digits of sha256: names rows and groups in the files."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
