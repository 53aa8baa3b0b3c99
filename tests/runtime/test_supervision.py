"""Which messages are supervised, and that the key for it goes no further."""

from __future__ import annotations

import pytest

from tunelift.runtime.supervision import is_supervised, last_supervised, through_last_supervised, without_weights

USER = {"role": "user", "content": "Hi"}
SAID = {"role": "assistant", "content": "Hello"}
CONTEXT = {**SAID, "weight": 0}


@pytest.mark.parametrize(
    ("message", "supervised"), [(SAID, True), ({**SAID, "weight": 1}, True), (CONTEXT, False), (USER, False)]
)
def test_an_assistant_turn_is_supervised_unless_its_weight_is_0(message: dict, supervised: bool) -> None:
    assert is_supervised(message) is supervised


def test_what_follows_the_last_supervised_turn_is_left_out_and_no_weight_stays() -> None:
    messages = [USER, CONTEXT, USER, SAID, USER, CONTEXT]
    assert last_supervised(messages) == 3
    assert through_last_supervised(messages) == [USER, SAID, USER, SAID]
    assert last_supervised([USER, CONTEXT]) is None
    assert through_last_supervised([USER, CONTEXT]) == [USER, CONTEXT]
    assert messages[1] == CONTEXT, "the data set's own messages stay as they are"
    assert without_weights([USER])[0] is USER
