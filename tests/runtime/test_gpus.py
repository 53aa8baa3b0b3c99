"""Cards: found by name however it is written, and recognized by what the driver calls them."""

from __future__ import annotations

import pytest

from tunelift.errors import UserError
from tunelift.runtime.gpus import CARDS, find, recognize
from tunelift.runtime.hardware import Hardware


@pytest.mark.parametrize("name", ["rtx-4090", "RTX 4090", "NVIDIA GeForce RTX 4090", "rtx_4090"])
def test_a_name_is_understood_however_it_is_written(name: str) -> None:
    assert find(name).name == "rtx-4090"


def test_an_unknown_name_gets_the_nearest_and_all_others() -> None:
    with pytest.raises(UserError, match="Did you mean rtx-4090") as caught:
        find("rtx4090")
    assert "h200" in caught.value.remedy
    with pytest.raises(UserError) as caught:
        find("voodoo")
    assert "Did you mean" not in caught.value.message


@pytest.mark.parametrize(
    ("said", "card"),
    [
        ("NVIDIA A10", "a10"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("Tesla T4", "t4"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100-80"),
        ("NVIDIA GeForce GTX 1080", None),
    ],
)
def test_the_machines_own_card_is_recognized_by_its_drivers_name(said: str, card: str | None) -> None:
    found = recognize(Hardware("cuda", said, 10.0, 4))
    assert (found.name if found else None) == card
    assert recognize(Hardware("cpu", said, 10.0, 4)) is None


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_each_card_has_a_source_and_bf16_only_where_the_hardware_has_it(card) -> None:
    assert card.source
    assert (card.bf16_tflops is not None) == card.native_bf16
    assert card.tflops > 0 and card.memory_gib > 10
