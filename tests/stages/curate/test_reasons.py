"""What reasons mean and what to do about them: told for each, in terms of settings that exist."""

from __future__ import annotations

import re

import pytest

from tunelift.config.schema import Config
from tunelift.stages.curate.reasons import MEANINGS, REMEDIES, meaning, remedy

REASONS = (
    *("invalid_json", "not_an_object", "missing_field", "unknown_role", "wrong_type", "not_utf8", "invalid_csv"),
    *("wrong_columns", "ends_without_reply", "roles_out_of_order", "empty_reply", "empty_turn", "exact_duplicate"),
    *("contaminated", "too_long", "reply_too_short", "refusal", "cut_off", "wrong_language", "reply_too_few_words"),
    *("reply_too_many_words", "reply_not_valid", "pii_email", "pii_secret", "near_duplicate", "not_sampled"),
    *(
        "nothing_supervised",
        "undesirable",
        "needs_media",
        "loss_not_followed",
        "media_placeholder",
        "not_followed_rating",
    ),
    *("stray_quote", "several_objects"),
    *("foreign_mark", "placeholder_reply"),
    *("template_refused", "template_refuses_tools", "template_ignores_tool_calls", "special_token_in_content"),
)


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_has_a_meaning(reason: str) -> None:
    assert re.fullmatch(r"[A-Z].*\.", meaning(reason))


def test_remedies_and_meanings_name_settings_that_exist() -> None:
    texts = [
        *MEANINGS.values(),
        *REMEDIES.values(),
        *(text(f"pii_{kind}") for kind in ("email", "secret", "iban") for text in (meaning, remedy)),
    ]
    named = {name for text in texts for name in re.findall(r"\b(?:curate|train|model)(?:\.[a-z_]+)+", text)}
    assert len(named) > 10
    for name in named:
        section = Config
        for key in name.split("."):
            assert key in section.model_fields, name
            section = section.model_fields[key].annotation  # type: ignore[assignment]
