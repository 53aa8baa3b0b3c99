"""What each reason means, and what can be done about it."""

from __future__ import annotations

from tunelift.runtime.chat import BOUNDARY_REMEDY
from tunelift.runtime.turns import STABLE_REMEDY, TOOL_REASONS, TOOL_REMEDY
from tunelift.stages.curate.other_fields import NOT_FOLLOWED

MEANINGS = {
    "invalid_json": "The row is not JSON, or has a key twice in one object, or an integer beyond 64 bits.",
    "not_an_object": "The row is JSON, but no object.",
    "several_objects": "Several JSON objects stand on one line.",
    "missing_field": "A field that the format needs is not there.",
    "unknown_role": "A message has a role that is none of system, user, assistant and tool.",
    "wrong_type": "A value has another type than the format asks for.",
    "not_utf8": "The bytes are not UTF-8.",
    "invalid_csv": "The CSV cannot be parsed from here.",
    "stray_quote": "A quotation mark that belongs to the text would make one field of this row and the next ones.",
    "wrong_columns": "The row has more or fewer columns than the header.",
    "ends_without_reply": "The conversation does not end with the assistant: nothing could be learnt from its end.",
    "roles_out_of_order": "User and assistant do not take turns.",
    "empty_reply": "The assistant says nothing.",
    "empty_turn": "A message that is not supervised is empty.",
    "nothing_supervised": "No assistant turn is supervised: all have a weight of 0, or what stands for it.",
    "undesirable": "A field says that the reply is wrong or not wanted: label, kto_tag, is_correct … is false.",
    "needs_media": "The row comes with a picture, a video or a sound, which a text model does not see.",
    "loss_not_followed": "The row asks for a loss that is not computed: on other messages, on parts, or a share.",
    "media_placeholder": "A user message holds <image>, <video> or <audio>, and the row has no such thing.",
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
    "placeholder_reply": "The reply stands for none, such as <nooutput> or the nan of an empty cell.",
    "foreign_mark": "A reply holds a mark of another model's chat template: it is rendered for that model.",
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
TURNS_REMEDY = (
    "Set curate.clean.turn_order to mend: it joins turns of one speaker, and cuts a greeting of the assistant before "
    "the first user turn, and what the user says after the last reply."
)
MARKS_REMEDY = (
    "Take the marks out of the texts, and give each turn a message of its own. Where they are meant to be learnt: set "
    "curate.clean.foreign_marks to report."
)
REMEDIES = {
    "ends_without_reply": TURNS_REMEDY,
    "roles_out_of_order": TURNS_REMEDY,
    "placeholder_reply": "Where it is meant to be learnt: set curate.clean.placeholders to report.",
    "foreign_mark": MARKS_REMEDY,
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
    "nothing_supervised": "Give the turns that are to be learnt a weight of 1, or take such rows out.",
    "undesirable": "If the field means something else: name it as ignore_fields of the source.",
    "needs_media": "Take such rows out, or allow for them with curate.max_quarantine_ratio. If the text does without, "
    "name the field as ignore_fields of the source.",
    "loss_not_followed": "Write a weight of 0 or 1 on assistant turns, and take such keys from all other messages.",
    "not_utf8": "Convert the file to UTF-8, from Latin-1 with: iconv -f ISO-8859-1 -t UTF-8.",
    "invalid_json": "Correct the lines; if the file is one JSON list, name it .json.",
    "several_objects": "A line break is missing, as between joined files. Put each object on a line of its own: "
    "jq -c . FILE > NEW.jsonl.",
    "not_an_object": 'Wrap each row: a list of turns as {"messages": [{"role": …, "content": …}]}, two texts as '
    '{"prompt": …, "completion": …}.',
    "stray_quote": 'Write the mark twice inside a quoted field ("""So it is"" he said"), or the rows as .jsonl, also '
    "where the field was meant to have several lines.",
    **dict.fromkeys(sorted(TOOL_REASONS), TOOL_REMEDY),
}
"""What to do when rows cannot be read, or are not kept, for this reason."""
PII = "pii_"


def meaning(reason: str) -> str:
    """A sentence on what a reason of dropped.jsonl or quarantine.jsonl means; empty if its name says it all."""
    if reason.startswith(PII):
        return f"The row holds personal data or a secret ({reason.removeprefix(PII)}), and curate.pii says to drop it."
    if reason.startswith(NOT_FOLLOWED):
        return f"The row's field {reason.removeprefix(NOT_FOLLOWED)!r} may say what its reply is worth; it is not read."
    if reason in TOOL_REASONS:
        return "The row uses tools, and the model's chat template does not show them."
    return MEANINGS.get(reason, "")


def remedy(reason: str) -> str:
    """What to do about it, as a sentence; empty where there is nothing to set."""
    if reason.startswith(PII):
        kind = reason.removeprefix(PII)
        return f"To keep such rows with a placeholder instead: set curate.pii.{kind} to redact."
    if reason.startswith(NOT_FOLLOWED):
        name = reason.removeprefix(NOT_FOLLOWED)
        return f"Take out the rows that it speaks against, then write ignore_fields: [{name}] beside the source's path."
    return REMEDIES.get(reason, "")
