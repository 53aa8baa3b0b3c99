"""What each reason means, and what can be done about it."""

from __future__ import annotations

from tunelift.runtime.chat import BOUNDARY_REMEDY
from tunelift.runtime.turns import STABLE_REMEDY, TOOL_REASONS, TOOL_REMEDY

MEANINGS = {
    "invalid_json": "The row is not JSON, or has a key twice in one object, or an integer beyond 64 bits.",
    "not_an_object": "The row is JSON, but no object.",
    "missing_field": "A field that the format needs is not there.",
    "unknown_role": "A message has a role that is none of system, user, assistant and tool.",
    "wrong_type": "A value has another type than the format asks for.",
    "not_utf8": "The bytes are not UTF-8.",
    "invalid_csv": "The CSV cannot be parsed from here.",
    "wrong_columns": "The row has more or fewer columns than the header.",
    "ends_without_reply": "The conversation does not end with the assistant: nothing could be learnt from its end.",
    "roles_out_of_order": "User and assistant do not take turns.",
    "empty_reply": "The assistant says nothing.",
    "empty_turn": "A message of the user is empty.",
    "tool_result_unknown": "A tool's result has an id that no call of the turn has.",
    "tool_result_twice": "Two results, or two calls, of one turn have one id.",
    "tool_result_missing": "A call has no result, though others of its turn have one.",
    "call_not_offered": "The assistant calls a tool that the row does not offer.",
    "call_breaks_schema": "The arguments of a call break the tool's schema.",
    "exact_duplicate": "An equal conversation stands earlier.",
    "near_duplicate": "A conversation with nearly the same words stands earlier.",
    "contaminated": "The row holds what an evaluation item asks.",
    "held_out_prompt": "The row asks what a row of test or validation asks.",
    "too_long": "The row is longer than train.max_length, and no row is cut.",
    "reply_too_short": "Fewer supervised tokens than curate.min_reply_tokens.",
    "reply_too_few_words": "The last reply has fewer words than curate.clean.min_reply_words.",
    "reply_too_many_words": "The last reply has more words than curate.clean.max_reply_words.",
    "reply_not_valid": "The last reply does not satisfy curate.clean.reply_schema.",
    "refusal": "The reply refuses, or speaks as an AI model.",
    "cut_off": "The reply ends in the middle.",
    "wrong_language": "The conversation is in none of curate.clean.languages.",
    "not_sampled": "The row passed every check, and the mix or the budget left no room for it.",
    "template_refused": "The model's chat template refuses the conversation.",
    "template_ignores_system": "The model's chat template does not show the system message.",
    "template_ignores_reply": "The model's chat template does not show the whole reply.",
    "template_not_prefix_stable": "The model's chat template writes what went before differently once a reply follows.",
    "token_across_boundary": "A token reaches across the border between prompt and reply.",
    "end_of_turn_missing": "The model's chat template does not end the reply with a token of its own.",
    "double_bos": "The text would begin with two beginning-of-text tokens.",
    "special_token_in_content": "A message holds a control token of the model.",
}
REMEDIES = {
    **dict.fromkeys(
        ("tool_result_unknown", "tool_result_twice", "tool_result_missing"),
        "Give each call an id of its own, and each result the tool_call_id of its call.",
    ),
    "too_long": "Raise train.max_length.",
    "reply_too_short": "Lower curate.min_reply_tokens.",
    "reply_too_few_words": "Lower curate.clean.min_reply_words.",
    "reply_too_many_words": "Raise curate.clean.max_reply_words.",
    "reply_not_valid": "Correct the replies, or the schema in curate.clean.reply_schema.",
    "refusal": "Where it is meant to be learnt: set curate.clean.refusals to report or off.",
    "cut_off": "Where the reply is whole: set curate.clean.cut_off to report or off.",
    "wrong_language": "Add the language to curate.clean.languages.",
    "near_duplicate": "To keep such rows: raise curate.duplicates.threshold, or set curate.duplicates.near to report.",
    "held_out_prompt": "To keep such rows in the split of that row: set curate.split.alike_prompts to join.",
    "not_sampled": "Raise curate.keep_rows or curate.keep_tokens, or change the sources' weights.",
    "template_refused": "Use data that the model's chat template can render, or a model whose template can.",
    "template_ignores_system": "Put the system message at the beginning of the first user message.",
    "template_ignores_reply": "Write thinking as <think>…</think> into the content; take out what the template drops.",
    "template_not_prefix_stable": STABLE_REMEDY,
    "token_across_boundary": BOUNDARY_REMEDY,
    "end_of_turn_missing": "Use the template that the model was published with.",
    "double_bos": "Use the template that the model was published with.",
    "special_token_in_content": "Take the control tokens out of the rows' text.",
    "not_utf8": "Convert the file to UTF-8, from Latin-1 with: iconv -f ISO-8859-1 -t UTF-8.",
    "invalid_json": "Correct the lines; if the file is one JSON list, name it .json.",
    **dict.fromkeys(sorted(TOOL_REASONS), TOOL_REMEDY),
}
"""What to do when rows cannot be read, or are not kept, for this reason."""
PII = "pii_"


def meaning(reason: str) -> str:
    """A sentence on what a reason of dropped.jsonl or quarantine.jsonl means; empty if its name says it all."""
    if reason.startswith(PII):
        return f"The row holds personal data or a secret ({reason.removeprefix(PII)}), and curate.pii says to drop it."
    if reason in TOOL_REASONS:
        return "The row uses tools, and the model's chat template does not show them."
    return MEANINGS.get(reason, "")


def remedy(reason: str) -> str:
    """What to do about it, as a sentence; empty where there is nothing to set."""
    if reason.startswith(PII):
        kind = reason.removeprefix(PII)
        return f"To keep such rows with a placeholder instead: set curate.pii.{kind} to redact."
    return REMEDIES.get(reason, "")
