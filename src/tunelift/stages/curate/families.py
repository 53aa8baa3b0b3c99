"""Held-out rows of one template: no independent items, though its words count for nothing in the split.

What more than a tenth of the rows share is boilerplate, so the rows of a few templates are divided one by one. That is
fair: every template is in every split. But an arm that is good at a template is good at all of its rows, so these are
one cluster of the task that is made of the split. Rows are of one template when their prompts differ in values only:
numbers, dates, addresses, and names or quoted texts of a few words.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunelift.stages.curate.examine import hash64
from tunelift.stages.curate.passed import StoredTexts
from tunelift.stages.curate.similarity import Hashes, Rows
from tunelift.stages.curate.split import TEST, VALIDATION, groups
from tunelift.stages.curate.values import form

ONE_FORM = 0.9
"""A form of more of a split's prompts than this is the task itself, such as one instruction before every number."""
BLOCK_ROWS = 4_096


def with_families(grouped: Rows, splits: NDArray[np.uint8], texts: StoredTexts, keys: Hashes) -> Rows:
    """The groups, where those of one split that hold rows of one template are one.

    Args:
        grouped: Each row's group, by the number of its first row.
        splits: Each row's split.
        texts: What the rows say.
        keys: As `groups` takes them.
    """
    edges = [np.empty((0, 2), np.int64)]
    for split in (VALIDATION, TEST):
        held = np.flatnonzero(splits == split)
        forms = _forms(texts, held)
        found, first, place, count = np.unique(forms, return_index=True, return_inverse=True, return_counts=True)
        same = (found != 0) & (count > 1) & (count <= ONE_FORM * max(1, len(held)))
        rows = np.flatnonzero(same[place])
        edges.append(np.stack((held[first[place[rows]]], held[rows]), axis=1))
    added = np.concatenate(edges)
    if not len(added):
        return grouped
    inside = np.stack((grouped, np.arange(len(grouped))), axis=1)
    return groups(len(grouped), np.concatenate((inside, added)), keys)


def _forms(texts: StoredTexts, rows: Rows) -> Hashes:
    """A hash of each row's prompt without its values; 0 where nothing is left that tells a template."""
    found = np.zeros(len(rows), np.uint64)
    for start in range(0, len(rows), BLOCK_ROWS):
        for place, said in enumerate(texts.prompts(rows[start : start + BLOCK_ROWS]), start):
            left = form("\n".join(text for role, text in said if role == "user"))
            found[place] = hash64(left) if left else 0
    return found
