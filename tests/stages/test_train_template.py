"""Training under a pinned template that gives each turn its own row: what is saved renders it without arguments."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

from tests.stages.conversations import train_config, write_dataset
from tests.tiny import CHATML
from tunelift.runtime.chat import load_tokenizer, supervise
from tunelift.runtime.encoded import read_encoded
from tunelift.runtime.template import pin
from tunelift.stages.train import train

OWN = "{{ strftime_now('%d %b %Y') }}\n" + CHATML.replace(
    "message['content'] +", "('!' if loop.last else '') + message['content'] +"
)


def test_the_adapter_keeps_the_pinned_template_and_each_turn_was_a_row(tiny_model: Path, tmp_path: Path) -> None:
    template = pin(OWN, {}, date(2024, 7, 26))
    turns = [{"role": role, "content": f"{role} {number}"} for number in range(3) for role in ("user", "assistant")]
    extra = ({"id": "talk", "messages": turns},)
    data = write_dataset(tmp_path / "data", train=8, validation=4, extra=extra)
    out = tmp_path / "out"
    out.mkdir()
    config = train_config(max_steps=2, eval_steps=2, save_steps=2)
    train(config, model=tiny_model, dataset=data, seed=1, device="cpu", out=out, template=template)
    assert (out / "adapter/chat_template.jinja").read_text() == template
    saved, asked = load_tokenizer(out / "adapter"), load_tokenizer(tiny_model, template)
    assert supervise(saved, turns) == supervise(asked, turns)
    rows = read_encoded(saved, data, "train")
    assert [row.id for row in rows][-3:] == ["talk#1", "talk#2", "talk#3"]
    found = json.loads((out / "preflight.json").read_text())
    assert found["rows"] == len(rows) == 8 + 3
    assert found["supervised_tokens"] == sum(row.rendered.supervised_tokens for row in rows)
    assert all(sample["text"].startswith("26 Jul 2024") for sample in found["samples"])
