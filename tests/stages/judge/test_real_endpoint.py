"""A real server as the judge: verdicts arrive in shape, and a model that cannot judge is found out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stages.judge.bench import config, read_lines, write_lines
from tests.stages.judge.test_stage import task
from tunelift.config.evaluation import CalibrationConfig, EndpointConfig
from tunelift.config.schema import EngineConfig
from tunelift.engines.endpoint import Endpoint
from tunelift.engines.vllm import VllmEngine
from tunelift.errors import UserError
from tunelift.stages.judge import judge

MODEL = Path(__file__).parents[3] / "runs/models/smollm2-135m-instruct"
ENGINE = EngineConfig(max_model_len=2048, cpu_kv_cache_gib=1, max_num_seqs=8, enforce_eager=True)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not MODEL.is_dir(), reason=f"{MODEL.name} is not there: `make quickstart` brings it"),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, vllm_runs: None) -> Iterator[EndpointConfig]:
    log = tmp_path_factory.mktemp("judge") / "vllm.log"
    with VllmEngine(MODEL, ENGINE, device="cpu", seed=1, served_name="small", log=log) as engine:
        engine.start()
        yield EndpointConfig(url=engine.url, model="small", usd_per_million_input=1.0, usd_per_million_output=2.0)


def labelled() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for n in range(10):
        asked, right, wrong = f"What is {n} plus {n + 1}?", f"{n} plus {n + 1} is {2 * n + 1}.", "I like trains."
        rows += [
            {"id": f"good{n}", "request": asked, "output": right, "good": True},
            {"id": f"bad{n}", "request": asked, "output": wrong, "good": False},
            {"id": f"pair{n}", "request": asked, "a": right, "b": wrong, "better": "a"},
            {"id": f"tie{n}", "request": asked, "a": right, "b": f"It is {2 * n + 1}.", "better": "tie"},
        ]
    return rows


def test_verdicts_arrive_in_shape_and_a_model_that_cannot_judge_is_refused(
    served: EndpointConfig, tmp_path: Path
) -> None:
    items = write_lines(tmp_path / "labelled.jsonl", labelled())
    answers = {"tuned": ["It is 3.", "It is 5."], "base": ["No idea!", "Five."]}
    for arm, outputs in answers.items():
        write_lines(
            tmp_path / arm / "samples.jsonl",
            [{"task": "chat", "id": f"i{n}", "output": text, "error": None} for n, text in enumerate(outputs)],
        )

    def judged(**thresholds: float) -> dict[str, Any]:
        return judge(
            config(
                items,
                endpoint=served,
                rubric="The answer is right and short.",
                calibration=CalibrationConfig(items=str(items), **thresholds),  # type: ignore[arg-type]
                max_tokens=120,
                concurrency=8,
                request_timeout_seconds=200,
            ),
            evaluations={arm: tmp_path / arm for arm in answers},
            tasks=[task(count=2)],
            focus="tuned",
            endpoint=Endpoint(served),
            seed=1,
            out=tmp_path,
        )

    details = judged(min_sensitivity=0, min_specificity=0)
    examined = read_lines(tmp_path / "calibration.jsonl")
    assert [line["error"] for line in examined] == [None] * 40
    assert {line["score"] for line in examined if line["mode"] == "absolute"} <= {1, 2, 3, 4, 5}
    assert {one for line in examined if line["mode"] == "pairwise" for one in line["orders"]} <= {"a", "b", "tie"}
    judgements = read_lines(tmp_path / "judgements.jsonl")
    assert [(one["mode"], one["error"]) for one in judgements] == [("absolute", None)] * 4 + [("pairwise", None)] * 2
    summary = json.loads((tmp_path / "judge.json").read_text())
    assert details["missing"] == 0
    assert summary["usd"] == pytest.approx((summary["tokens_in"] + 2 * summary["tokens_out"]) / 1e6)
    assert summary["tokens_in"] > 300 * (20 + 40), "the rules alone are that long"

    # The same verdicts, held to the usual thresholds.
    with pytest.raises(UserError, match="The judge small did not pass its calibration") as caught:
        judged()
    assert "is below 0.8" in caught.value.message
