"""Metrics of the `evaluate` library: from a folder without network, by name with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tasks.scorers.making import item, scorer, task
from tunelift.errors import UserError

SCRIPT = """
import datasets
import evaluate


class Same(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="",
            citation="",
            features=datasets.Features(dict.fromkeys(["predictions", "references"], datasets.Value("{dtype}"))),
        )

    def _compute(self, predictions, references, strict=True):
        if predictions[0] == "fail":
            raise RuntimeError("deliberately")
        same = predictions == references if strict else predictions[0].lower() == references[0].lower()
        return {{"same": 100.0 * same, "errors": [len(predictions[0]) / 2]}}
"""


def metric(folder: Path, name: str = "same", dtype: str = "string") -> Path:
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / f"{name}.py").write_text(SCRIPT.format(dtype=dtype))
    return folder


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Copies of scripts go to a folder that is thrown away; one for all tests, since Python keeps what it imported."""
    from evaluate import config

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


def test_a_metric_in_a_folder_scores_without_network(tmp_path: Path) -> None:
    rule = scorer("evaluate", folder=metric(tmp_path), metric="same", result="same", divide_by=100, kind="binary")
    assert (rule.name, rule.kind, rule.bounded) == ("same", "binary", True)
    assert [rule.function(output, item("no", "yes"), task()) for output in ("yes", "Yes", "\ud800")] == [1, 0, 0]
    loose = scorer(
        "evaluate",
        folder=tmp_path,
        metric="same",
        result="same",
        divide_by=100,
        name="loose",
        arguments={"strict": False},
    )
    assert loose.function("YES", item("yes"), task()) == 1


def test_an_error_rate_takes_the_answer_with_the_fewest_errors_and_may_leave_the_unit_range(tmp_path: Path) -> None:
    folder = metric(tmp_path)
    rule = scorer("evaluate", folder=folder, metric="same", result="errors", lower_is_better=True, bounded=False)
    assert (rule.lower_is_better, rule.bounded, rule.function("12345", item("x"), task())) == (True, False, 2.5)
    bounded = scorer("evaluate", folder=folder, metric="same", result="errors")
    with pytest.raises(UserError, match=r"gave 2\.5 on item '1', which is no number from 0 to 1"):
        bounded.function("12345", item("x"), task())


def test_its_source_is_its_identity(tmp_path: Path) -> None:
    before = scorer("evaluate", folder=metric(tmp_path), metric="same", result="same").identity
    assert set(before["options"]["metric"]) == {"same.py"}
    assert scorer("evaluate", folder=metric(tmp_path / "moved"), metric="same", result="same").identity == before
    (tmp_path / "same" / "same.py").write_text(SCRIPT.format(dtype="string") + "\n# changed\n")
    assert scorer("evaluate", folder=tmp_path, metric="same", result="same").identity != before


def test_what_cannot_be_used_is_told_in_words(tmp_path: Path) -> None:
    folder = metric(tmp_path)
    rule = scorer("evaluate", folder=folder, metric="same")
    with pytest.raises(UserError, match="gives same, errors, so one must be chosen"):
        rule.function("x", item("x"), task())
    rule = scorer("evaluate", folder=folder, metric="same", result="some")
    with pytest.raises(UserError, match="and no 'some'"):
        rule.function("x", item("x"), task())
    rule = scorer("evaluate", folder=folder, metric="same", result="same", divide_by=100)
    with pytest.raises(UserError, match=r"The metric same failed on item '1': RuntimeError: deliberately"):
        rule.function("fail", item("x"), task())
    with pytest.raises(UserError, match="does not compare one text with one text"):
        scorer("evaluate", folder=metric(tmp_path, "numbers", "int32"), metric="numbers")
    with pytest.raises(UserError, match="There is no folder"):
        scorer("evaluate", folder=folder, metric="./nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no empty\.py"):
        scorer("evaluate", folder=folder, metric="empty")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "broken.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        scorer("evaluate", folder=folder, metric="broken")
    assert "Correct its script" in caught.value.remedy


def test_a_name_without_network_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="The metric no_such_metric cannot be loaded") as caught:
        scorer("evaluate", folder=tmp_path, metric="no_such_metric")
    assert "put it beside the task" in caught.value.remedy
