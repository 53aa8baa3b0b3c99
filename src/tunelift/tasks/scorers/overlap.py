"""Overlap with reference texts, as the field computes it: chrF and BLEU by sacrebleu, ROUGE by rouge-score. In [0, 1].

Each is computed for one item at a time; a task's mean is the mean of sentence scores, not a score of the whole corpus.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from tunelift.config.section import Section
from tunelift.tasks.scorers.base import Bound, Place, written

if TYPE_CHECKING:
    from tunelift.tasks.task import Item, Task


class ChrfOptions(Section):
    """Options of `chrf`."""

    word_order: Literal[0, 2] = 0
    """0: chrF (Popović 2015); 2: chrF++ (Popović 2017)."""


def chrf(options: ChrfOptions, place: Place) -> Bound:
    """Character n-gram F-score against the accepted answers; works for any language."""
    return _sacrebleu(lambda: _chrf(options.word_order))


class BleuOptions(Section):
    """Options of `bleu`."""

    tokenize: Literal["13a", "intl", "char", "zh"] = "13a"
    """sacrebleu's tokenizer; `zh` for Chinese, `char` for other text without spaces."""
    lowercase: bool = False
    """Blind to case."""


def bleu(options: BleuOptions, place: Place) -> Bound:
    """Sentence BLEU against the accepted answers, exponentially smoothed, n-gram orders as far as the text has them."""
    return _sacrebleu(
        lambda: _bleu(options.tokenize, options.lowercase),
        lambda text: _divided(text, _bleu(options.tokenize, options.lowercase).tokenizer(text).split()),
    )


def _sacrebleu(metric: Callable[[], Any], sees: Callable[[str], float] | None = None) -> Bound:
    def function(output: str, item: Item, task: Task) -> float:
        found = metric().sentence_score(output, [written(right) for right in item.accepted]).score / 100
        return min(1.0, max(0.0, float(found)))

    return Bound("graded", function, identity={"sacrebleu": version("sacrebleu")}, sees=sees)


@cache
def _chrf(word_order: int) -> Any:
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(word_order=word_order)


@cache
def _bleu(tokenize: str, lowercase: bool) -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize=tokenize, lowercase=lowercase, effective_order=True)


_LATIN = re.compile(r"[a-z0-9]+")
"""The only words of rouge-score's own tokenizer."""
UNDIVIDED = re.compile(
    r"[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Letters of languages that write no blank between words: Thai, Lao, Tibetan, Burmese, Khmer, Japanese, Chinese."""


def _latin(text: str) -> float:
    """The share of its letters and digits that are a-z or 0-9."""
    letters = sum(letter.isalnum() for letter in text)
    return sum(map(len, _LATIN.findall(text.lower()))) / letters if letters else 0.0


def _divided(text: str, tokens: Sequence[str]) -> float:
    """The share of its letters in tokens that are no run of letters which the language divides without blanks."""
    letters = sum(letter.isalnum() for letter in text)
    runs = sum(len(UNDIVIDED.findall(token)) for token in tokens if len(UNDIVIDED.findall(token)) > 1)
    return 1 - runs / letters if letters else float(bool(tokens))


class RougeOptions(Section):
    """Options of `rouge1`, `rouge2` and `rougeL`."""

    stemmer: bool = False
    """Compare words by Porter's stems, as many papers do."""


def rouge(kind: str) -> Callable[[RougeOptions, Place], Bound]:
    """ROUGE's F-measure against the accepted answer that fits best. It sees only a-z and 0-9: English only."""

    def bind(options: RougeOptions, place: Place) -> Bound:
        def function(output: str, item: Item, task: Task) -> float:
            scorer = _rouge(kind, options.stemmer)
            return max((_fmeasure(scorer.score(written(right), output)[kind]) for right in item.accepted), default=0.0)

        least = 2 if kind == "rouge2" else 1
        return Bound(
            "graded",
            function,
            identity={"rouge-score": version("rouge-score")},
            sees=lambda text: _latin(text) if len(_LATIN.findall(text.lower())) >= least else 0.0,
        )

    return bind


def _fmeasure(score: Any) -> float:
    return min(1.0, float(score.fmeasure))


@cache
def _rouge(kind: str, stemmer: bool) -> Any:
    from absl import logging
    from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]
    from rouge_score.tokenizers import DefaultTokenizer  # type: ignore[import-untyped]

    # absl, which it imports, keeps today's sys.stderr and closes it when logging is set up anew; where that was a
    # stand-in (a notebook's, a capture's), the owner still needs it.
    logging.get_absl_handler().python_handler.setStream(sys.__stderr__)
    # Its own default tokenizer, but given: without one it logs, and absl hangs a handler on the root logger.
    return RougeScorer([kind], tokenizer=DefaultTokenizer(stemmer))
