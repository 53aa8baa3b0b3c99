"""A step is chosen by the answers alone: what the model thinks before them is not scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tiny import CHATML, tiny_tokenizer
from tunelift.stages.train.answers import Asked, ask

OPENS = CHATML.replace("assistant\\n' }}{% endif", "assistant\\n<think>\\n' }}{% endif")
"""A template that begins the model's thinking."""


def row(number: int) -> dict[str, object]:
    reply = f"<think>\nof {number}\n</think>\n\nlate"
    return {
        "id": f"r{number}",
        "messages": [{"role": "user", "content": "when?"}, {"role": "assistant", "content": reply}],
    }


@pytest.mark.parametrize(
    ("template", "outputs", "mean"),
    [
        (CHATML, ["<think>\n\n</think>\n\nlate", "late", "<think>late"], 2 / 3),
        (OPENS, ["hm\n</think>\n\nlate", "\n</think>\n\nlate", "late"], 2 / 3),
    ],
    ids=("closed", "opened by the prompt"),
)
def test_thinking_is_taken_off_before_a_step_is_chosen_by_a_scorer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str, outputs: list[str], mean: float
) -> None:
    (tmp_path / "validation.jsonl").write_text("".join(json.dumps(row(n)) + "\n" for n in range(3)))
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    asked = ask(tokenizer, tmp_path, rows=3, max_tokens=9, scorer="exact_match", seed=1, stops=[2])
    assert {item.accepted for item in asked.task.items} == {("late",)}
    monkeypatch.setattr(Asked, "answers", lambda self, trainer: outputs)
    assert asked.mean_score(None) == pytest.approx(mean)  # type: ignore[arg-type]
