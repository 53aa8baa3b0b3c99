"""Arms, prompts and gates: what the short names stand for, and which combinations are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from tunelift import cli
from tunelift.config.evaluation import NOISE_ARM, ArmConfig, EndpointConfig, EvaluateConfig, GateConfig, JudgeConfig


def test_the_usual_arms_stand_for_weights_and_prompts() -> None:
    base, prompted, tuned = EvaluateConfig(few_shot=4).resolved_arms()
    assert (base.model, base.prompt, base.few_shot) == ("base", "instructed", None)
    assert (prompted.model, prompted.prompt, prompted.few_shot) == ("base", "instructed", 4)
    assert (tuned.model, tuned.prompt) == ("tuned", "trained")
    assert [arm.has_own_prompt for arm in (base, prompted, tuned)] == [False, True, False]


def test_what_a_config_says_of_a_usual_arm_wins() -> None:
    arms = EvaluateConfig(
        arms=[{"name": "prompted", "search": {"few_shot": [0, 2]}}, {"name": "tuned", "prompt": "instructed"}]
    ).resolved_arms()
    assert (arms[0].few_shot, arms[0].search.few_shot) == (None, (0, 2))
    assert (arms[1].model, arms[1].prompt) == ("base", "instructed")


@pytest.mark.parametrize(
    ("arms", "focus"),
    [
        (["base", "tuned", {"name": "yardstick", "model": {"id": "a/b"}}], "tuned"),
        ([{"name": "mine", "model": "tuned", "prompt": "trained"}, "base"], "mine"),
        ([{"name": "a", "instruction": "Be brief."}, {"name": "b", "instruction": "Be long."}], "b"),
    ],
)
def test_claims_are_about_the_tuned_arm_or_the_last(arms, focus: str) -> None:
    assert EvaluateConfig(arms=arms).focus == focus


def test_the_noise_floor_asks_the_base_again_with_the_same_prompt() -> None:
    *_, again = EvaluateConfig(noise_floor=True).resolved_arms()
    assert again == ArmConfig(name=NOISE_ARM)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"arms": ["base", "base"]}, "names base twice"),
        ({"arms": ["tuned"], "noise_floor": True}, "has no `base`"),
        ({"arms": ["base", NOISE_ARM]}, "choose another name"),
        (
            {"tasks": ["evals/a"], "arms": [{"name": "prompted", "search": {"on": "evals/a/"}}]},
            "chosen on evals/a, which is also in evaluate.tasks",
        ),
        (
            {"tasks": [{"from_split": "validation"}], "arms": [{"name": "prompted", "search": {}}]},
            "chosen on validation",
        ),
    ],
)
def test_an_evaluation_that_proves_nothing_is_refused(fields, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EvaluateConfig(**fields)


@pytest.mark.parametrize("on", ["./evals/a", "evals//a/", "evals/../evals/a", "link", "{here}/evals/a"])
def test_no_spelling_of_a_folder_lets_a_prompt_be_chosen_on_a_task(
    on: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("evals/a").mkdir(parents=True)
    Path("link").symlink_to("evals/a")
    search = {"on": on.format(here=tmp_path)}
    for tasks in (["evals/a"], [{"from_split": "test"}, "./evals/a/"]):
        with pytest.raises(ValidationError, match=r"which is also in evaluate\.tasks: what selects cannot prove"):
            EvaluateConfig(tasks=tasks, arms=["base", {"name": "prompted", "search": search}])
    EvaluateConfig(tasks=["evals/b"], arms=["base", {"name": "prompted", "search": search}])


@pytest.mark.parametrize(
    "arm",
    [
        {"name": "x", "model": "tuned", "endpoint": {"url": "http://127.0.0.1:1/v1", "model": "m"}},
        {"name": "x", "prompt": "trained", "few_shot": 2},
        {"name": "x", "few_shot": 2, "search": {}},
    ],
)
def test_an_arm_that_contradicts_itself_is_refused(arm) -> None:
    with pytest.raises(ValidationError, match=r"remove|set prompt"):
        ArmConfig(**arm)


def test_an_arm_knows_whose_weights_it_asks() -> None:
    arms = EvaluateConfig(
        arms=(
            "base",
            {"name": "prompted", "few_shot": 3},
            "tuned",
            {"name": "long", "model": "tuned", "instruction": "Think."},
            {"name": "big", "model": {"id": "Qwen/Qwen3-8B"}},
            {"name": "hosted", "endpoint": {"url": "http://127.0.0.1:1/v1", "model": "m"}},
        )
    ).arms
    assert [arm.weights for arm in arms] == ["base", "base", "tuned", "tuned", "other", "other"]


def test_price_key_and_rate_are_no_part_of_an_arms_identity() -> None:
    plain = {"name": "x", "endpoint": {"url": "http://127.0.0.1:1/v1", "model": "m"}}
    priced = {**plain["endpoint"], "usd_per_million_input": 1, "requests_per_minute": 9, "api_key_env": "KEY"}
    assert ArmConfig(**plain).identity() == ArmConfig(name="x", endpoint=priced).identity()


def test_a_task_name_alone_claims_an_improvement_of_its_primary_metric() -> None:
    (claim,) = GateConfig(improved=["mine"]).improved
    assert (claim.task, claim.metric, claim.against, claim.at_least) == ("mine", None, "best_untuned", 0.0)


def test_a_gate_that_claims_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="claims nothing"):
        GateConfig()


def test_a_judge_whose_bar_is_above_its_scale_is_refused() -> None:
    endpoint = {"url": "http://127.0.0.1:1/v1", "model": "m"}
    with pytest.raises(ValidationError, match="accept_from=6 is above"):
        JudgeConfig(endpoint=endpoint, rubric="r", accept_from=6, calibration={"items": "x"})


def test_a_written_config_reads_back_as_the_same_arms() -> None:
    config = EvaluateConfig(noise_floor=True)
    again = EvaluateConfig(**config.model_dump(mode="json"))
    assert again == config
    assert again.resolved_arms() == config.resolved_arms()


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:80O0/v1",
        "http://localhost:123456/v1",
        "http://[::1/v1",
        "http:///v1",
        "http://:8000/v1",
        "http://my host/v1",
        "http://host\n/v1",
    ],
)
def test_a_url_that_is_no_address_is_refused_when_the_config_is_read_and_not_repeated(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        EndpointConfig(url=url, model="m")
    (problem,) = caught.value.errors()
    assert problem["loc"] == ("url",)
    assert problem["msg"].endswith(
        "is no address: its host or its port is malformed; write http://127.0.0.1:8000/v1, say"
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hunter2@api.example.com/v1",
        "https://hunter2@api.example.com/v1",
        "http://me:hunter2@host:80O0/v1",
        "htps://me:hunter2@host/v1",
        "me:hunter2@host/v1",
        "http://me:hun/ter2@host/v1",
    ],
)
@pytest.mark.parametrize("verb", ["train", "merge", "serve", "show"])
def test_a_url_with_a_password_reaches_no_verb_and_no_message(
    url: str, verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    arms = f"[{{name: a, endpoint: {{url: '{url}', model: m}}}}]"
    lines = ["name: a", "model: {id: x/y}", "curate: {sources: [{path: a.jsonl}]}", "evaluate:", f"  arms: {arms}"]
    Path("a.yaml").write_text("\n".join(lines))
    assert cli.main([verb, "a.yaml"]) == 2
    in_the_file = capsys.readouterr()
    assert "a.yaml:5: evaluate.arms[0].endpoint.url: " in in_the_file.err
    Path("b.yaml").write_text("\n".join(lines[:3]))
    assert cli.main([verb, "b.yaml", f"evaluate.arms={arms}"]) == 2
    on_the_command_line = capsys.readouterr()
    assert "command line, evaluate.arms=" in on_the_command_line.err
    assert "ter2" not in "".join((*in_the_file, *on_the_command_line))
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    "url",
    ["http://[::1]:8000/v1", "https://api.example.com/v1", "http://10.0.0.1:65535", "https://api.example.com/@me/v1"],
)
def test_an_address_is_taken_as_it_is(url: str) -> None:
    assert EndpointConfig(url=url, model="m").url == url
