"""Personal data and secrets: what is one is found, what only looks like one is not, and nothing survives redaction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stages.curate.conftest import kept_rows, pair, request, write_jsonl
from tests.wording import own_words
from tunelift.config.curation import PiiConfig
from tunelift.stages.curate.pii import Finding, Pii, masked
from tunelift.stages.curate.pii_shapes import FINDERS, IBAN_LENGTHS, luhn
from tunelift.stages.curate.rows import Fault

ALL = Pii(PiiConfig(**dict.fromkeys(FINDERS, "redact")))
TOKEN = "a1B2c3D4e5F6g7H8i9J0"
FOUND = {
    "email": [
        "write to ⟦ann.lee@example.com⟧.",
        "⟦Jörg@müller.de⟧",
        "<⟦a_b+c@mail.co.uk⟧>",
        "请联系⟦abc@example.com⟧谢谢",
        "mailto:⟦bob@x.io⟧,",
        '{"to": "⟦ann@b.de⟧"}',
        '{"text": "a\\n⟦ann@b.de⟧\\tb"}',
        "⟦o'neil@irish.ie⟧",
        "_⟦john@example.com⟧_",
        "__⟦john@example.com⟧__",
        "_write to ⟦john@example.com⟧_",
        "⟦_john@example.com⟧",
    ],
    "phone": [
        "⟦+49 30 1234567⟧.",
        "⟦+1 (555) 123-4567⟧",
        "ring ⟦0049 30 123456⟧ please",
        "⟦(555) 234-5678⟧",
        "⟦555-234-5678⟧",
        "⟦1-800-555-0199⟧",
        "⟦030 12345678⟧",
        "⟦0171/1234567⟧",
        "⟦01 42 68 53 00⟧",
        "⟦020 7946 0958⟧",
        "⟦07700 900123⟧",
        "⟦090-1234-5678⟧",
        "⟦+442079460958⟧",
        "⟦+91 98765 43210⟧",
        "phone: ⟦612 345 678⟧",
        "Tel. ⟦91 123 45 67⟧",
        "my phone number is ⟦5552345678⟧",
        "Handy ⟦017612345678⟧",
        "Telefonnummer: ⟦12345678⟧",
        '{"phone": "⟦9876543210⟧"}',
        '{"phone_number": "⟦9876543210⟧"}',
        '{"customer_phone": ⟦9876543210⟧}',
        "**Phone:** ⟦9876543210⟧",
        "**Phone number:** ⟦9876543210⟧",
        "mobile_no=⟦9876543210⟧",
        "⟦(212) 555 0123⟧",
        "⟦(212)-555-0123⟧",
        "⟦(+91) 9876543210⟧",
        "(⟦+49 30 1234567⟧)",
        "⟦+4915173078465⟧",
        "⟦+30569309025904⟧",
        "tel ⟦06-12-24-55-78⟧",
    ],
    "card": [
        "⟦4111 1111 1111 1111⟧",
        "card ⟦4111111111111111⟧.",
        "⟦5500-0000-0000-0004⟧",
        "⟦378282246310005⟧",
        "⟦3782 822463 10005⟧",
        "⟦6011111111111117⟧",
        "⟦30569309025904⟧",
        "⟦3530111333300000⟧",
        "⟦2223003122003222⟧",
        "⟦4111 1111 1111 1111⟧ 123",
        "⟦4111 1111 1111 1111⟧ 12/26",
        "⟦4111 1111 1111 1111⟧ 12 26 123",
        "order 1234 ⟦4111 1111 1111 1111⟧",
        "⟦4111\u00a01111\u00a01111\u00a01111⟧",
        "⟦4111–1111–1111–1111⟧",
        "⟦4111.1111.1111.1111⟧.",
    ],
    "iban": [
        "⟦DE89 3704 0044 0532 0130 00⟧",
        "⟦GB29NWBK60161331926819⟧",
        "⟦FR14 2004 1010 0505 0001 3M02 606⟧",
        "⟦NO9386011117947⟧",
        "pay ⟦DE89370400440532013000⟧ BIC COBADEFF",
    ],
    "ip": ["⟦8.8.8.8⟧", "http://⟦93.184.216.34⟧:80/x", "⟦2001:4860:4860::8888⟧", "the host ⟦1.1.1.1⟧."],
    "secret": [
        f"⟦sk-{TOKEN}{TOKEN}⟧",
        f"key=⟦sk-ant-api03-{TOKEN}-{TOKEN}⟧",
        f"⟦sk-proj-{TOKEN}_{TOKEN}⟧",
        f"⟦ghp_{TOKEN}{TOKEN[:16]}⟧",
        f"⟦github_pat_{TOKEN}_{TOKEN}⟧",
        f"⟦hf_{TOKEN}{TOKEN[:14]}⟧",
        f"⟦xoxb-123456789012-123456789012-{TOKEN}⟧",
        f"⟦AIza{TOKEN}{TOKEN[:15]}⟧",
        f"Authorization: Bearer ⟦{TOKEN}⟧",
        "⟦eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcDEF123_-x⟧",
        "postgres://bob:⟦hunter2⟧@db.example.com/x",
        "⟦-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nabc\n-----END RSA PRIVATE KEY-----⟧",
        '{"k": "⟦-----BEGIN PRIVATE KEY-----\\nMIIEowIBAAKCAQEA\\n-----END PRIVATE KEY-----⟧\\n"}',
        "⟦AKIAIOSFODNN7EXAMPLA⟧",
        "aws_secret_access_key = ⟦wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY⟧",
        f"⟦sk_live_{TOKEN}abcd⟧",
        f"⟦glpat-{TOKEN}⟧",
        f"⟦110201543:{TOKEN}{TOKEN[:15]}⟧",
        f"⟦SG.{TOKEN}ab.{TOKEN}{TOKEN}abc⟧",
    ],
}


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
def test_each_kind_is_found_whole_and_its_mask_does_not_tell_it(kind: str, text: str) -> None:
    before, value = text.partition("⟦")[0], text.partition("⟦")[2].partition("⟧")[0]
    (hit,) = ALL.hits(text.replace("⟦", "").replace("⟧", ""))
    assert (hit.kind, hit.value, hit.start) == (kind, value, len(before))
    assert value not in masked(kind, value)


@pytest.mark.parametrize(
    "text",
    [
        "2024-01-02T10:30:00Z, 2024-01-02 10:30, 01/02/2024 and 02.01.2024",
        "order 12345678, Order #555-234-5678, Bestellnummer 0171 1234567, ticket 404-555-1234",
        "Call 911. Call 2024-01-02. Call about order 1234567.",
        "Schedule a call on 2024-05-12 14:00 with Bob. Set up a phone call 2025-01-15 10:00-11:00",
        "Call me on 12/05/2024 10:30, call 12.05.2024 14.00, call me on 2024-05-12 14",
        '{"tool_call": "12345678"}, {"call_number": "12345678"}, {"tool_call_id": 12345678}, {"id": "9876543210"}',
        "The microphone_model: 12345678. It was a call.\n\n\n\n12345678 rows. Call -- again! -- 12345678",
        "f(+1) 12345678, (450) 320 12000, (450) 320 1200.5, (212) 555, 250 300 4000, (150) 300 4000, x(212) 555 0123",
        "4039621723216, 4006381333931, user@host_name, ann@example.com_old, a@b.com_(x)",
        "v1.2.3.4, version 8.8.4.4, Chrome/120.1.2.3, firmware 9.9.9.9, x==1.2.3.4, Section 1.2.3.4",
        "$1,234,567.89, € 12 345 678, 1.234.567 people, 100 000 000, 2.147.483.647",
        "1234567890123, 12345678901234567890, 3.14159265358979, 0.123456789, 0x1234567890",
        "192.168.0.1, 127.0.0.1, 10.0.0.5, fe80::1, ::1, 12:34:56:78:9a:bc, std::string::npos, 00:00:12.345",
        "@user, user@host, git@github.com:org/repo.git, icon@2x.png, x@w.sum(), package@1.2.3, a @ b.c",
        "4111 1111 1111 1112, 4111111111111112, 1234 5678 9012 3452, DE89 3704 0044 0532 0130 01, AB12 3456 7890",
        "550e8400-e29b-41d4-a716-446655440000, 978-3-16-148410-0, 123-45-6789, 94043, 1990-2000",
        "sk-fading-circle-wrapper-large-spinner, a bearer of bad news and good tidings for all",
        "sk-your-api-key-goes-here-please, hf_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx, task-abcdefghijklmnopqrst1234",
        "postgres://user:password@host/db, postgres://${USER}:${PASS}@host, https://example.com/a:b, at 10:30 @ home",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08, da39a3ee5e6b4b0d3255bfef95601890afd80709",
        "1 2 3 4 5 6 7 8 9 10, 1-2-3-4-5-6-7-8, 01 02 03 04 05, 5+12345678, line 1: 00000000, tel aviv 2019 2020",
        "[EMAIL_1], [CARD_2], [SECRET_1]",
        "the password is very long and the secret is out",
    ],
)
def test_what_only_looks_like_one_is_none(text: str) -> None:
    assert [hit.value for hit in ALL.hits(text)] == []


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        (r"write to john\_doe@example.com, or john_doe@example.com", "write to [EMAIL_1], or [EMAIL_1]"),
        (r"**John**: \_j\.d\_@example\.com\!", r"**John**: [EMAIL_1]\!"),
        (r"call \+49 30 1234567", "call [PHONE_1]"),
        (r"\4111 1111 1111 1111", r"\[CARD_1]"),
        ('{"path": "C:\\\\\\nann@b.de"}', '{"path": "C:\\\\\\n[EMAIL_1]"}'),
    ],
)
def test_backslashes_before_punctuation_belong_to_the_value_and_those_of_json_do_not(text: str, redacted: str) -> None:
    assert ALL.apply(pair(text, "ok")["messages"]).messages[0]["content"] == redacted


def test_of_values_that_overlap_the_more_telling_kind_counts() -> None:
    assert [(hit.kind, hit.value) for hit in ALL.hits("ftp://bob:s3cr3t@host.example.com")] == [("secret", "s3cr3t")]
    assert [hit.kind for hit in ALL.hits("DE89 3704 0044 0532 0130 00")] == ["iban"]


def test_equal_values_get_equal_placeholders_everywhere_in_a_conversation() -> None:
    call = {"type": "function", "function": {"name": "pay", "arguments": {"n": 4111111111111111, "to": ["x bob@c.fr"]}}}
    messages = [
        {"role": "system", "content": "You work for Ann@B.de"},
        {"role": "user", "content": "ann@b.de or bob@c.fr, card 4111 1111 1111 1111"},
        {"role": "assistant", "content": "", "reasoning_content": "bob@c.fr?", "tool_calls": [call]},
    ]
    result = ALL.apply(messages)
    system, user, assistant = result.messages
    assert system["content"] == "You work for [EMAIL_1]"
    assert user["content"] == "[EMAIL_1] or [EMAIL_2], card [CARD_1]"
    assert assistant["reasoning_content"] == "[EMAIL_2]?"
    assert assistant["tool_calls"][0]["function"]["arguments"] == {"n": "[CARD_1]", "to": ["x [EMAIL_2]"]}
    assert call["function"]["arguments"]["n"] == 4111111111111111, "the raw row stays as it was"  # type: ignore[index]
    assert result.edits == ("card", "email")
    assert result.fault is None
    assert result.findings[0] == Finding("email", "redact", 0, "A…@B.de")
    assert [(found.message, found.kind) for found in result.findings] == [
        (0, "email"), (1, "email"), (1, "email"), (1, "card"), (2, "email"), (2, "card"),
    ]  # fmt: skip


def test_values_in_the_tools_definitions_go_too() -> None:
    tools = [
        {
            "type": "function",
            "function": {
                "name": "mail",
                "description": f"Ask bob@c.fr for a key such as sk-proj-{TOKEN}_{TOKEN}",
                "parameters": {"properties": {"to": {"enum": ["ann@b.de"]}}},
            },
        }
    ]
    result = ALL.apply(pair("write to ann@b.de", "ok")["messages"], tools)
    assert result.messages[0]["content"] == "write to [EMAIL_1]"
    assert result.tools is not None
    function = result.tools[0]["function"]
    assert function["description"] == "Ask [EMAIL_2] for a key such as [SECRET_1]"
    assert function["parameters"] == {"properties": {"to": {"enum": ["[EMAIL_1]"]}}}
    assert [found.message for found in result.findings] == [0, None, None, None]
    dropped = Pii(PiiConfig(secret="drop")).apply(pair("Hi", "ok")["messages"], tools)
    assert dropped.fault == Fault("pii_secret", {"in": "tools", "masked": "sk-p…"})
    assert dropped.tools == tools


def test_a_value_that_is_known_goes_also_where_its_shape_alone_would_not_give_it_away() -> None:
    result = ALL.apply(pair("my phone number is 5552345678", '{"tool": "call", "number": "5552345678"}')["messages"])
    assert result.messages[1]["content"] == '{"tool": "call", "number": "[PHONE_1]"}'


def test_a_placeholder_that_stands_there_already_is_not_given_to_another_value() -> None:
    result = ALL.apply(pair("write to [EMAIL_1] and ann@b.de", "ok")["messages"])
    assert result.messages[0]["content"] == "write to [EMAIL_1] and [EMAIL_2]"


def test_report_lists_drop_drops_and_off_does_not_look() -> None:
    messages = pair("ann@b.de, 8.8.8.8", "card 4111 1111 1111 1111")["messages"]
    reported = Pii(PiiConfig(email="report", ip="off", card="report")).apply(messages)
    assert reported.messages == messages
    assert reported.findings == (Finding("email", "report", 0, "a…@b.de"), Finding("card", "report", 1, "…1111"))
    assert (reported.fault, reported.edits) == (None, ())
    dropped = Pii(PiiConfig(email="redact", card="drop")).apply(messages)
    assert dropped.fault == Fault("pii_card", {"message": 1, "masked": "…1111"})
    assert Pii(PiiConfig(**dict.fromkeys(FINDERS, "off"))).apply(messages).findings == ()


def test_a_number_in_a_json_reply_becomes_a_string_so_that_it_stays_json() -> None:
    reply = '{"card": 4111111111111111, "all": [4111111111111111, "a\\"4111 1111 1111 1111"]}'
    result = ALL.apply(pair("Hi", reply)["messages"])
    assert json.loads(result.messages[1]["content"]) == {"card": "[CARD_1]", "all": ["[CARD_1]", 'a"[CARD_1]']}


def _card(digits: str) -> str:
    return next(digits + str(last) for last in range(10) if luhn(digits + str(last)))


def _iban(body: str) -> str:
    check = 98 - int("".join(str(int(letter, 36)) for letter in body + "DE00")) % 97
    return f"DE{check:02}{body}"


digits = st.characters(min_codepoint=48, max_codepoint=57)
values = st.one_of(
    st.from_regex(r"[a-z]{2,8}\.[a-z]{2,8}@[a-z]{3,8}\.(com|de)", fullmatch=True),
    st.text(digits, min_size=14, max_size=14).map(lambda text: _card("4" + text)),
    st.text(digits, min_size=18, max_size=18).map(_iban),
    st.text(digits, min_size=7, max_size=7).map(lambda text: f"+49 30 {text}"),
    st.from_regex(r"ghp_[A-Za-z0-9]{36}", fullmatch=True),
    st.just("8.8.4.4"),
)  # fmt: skip
filler = st.text('ab é1@ \n"\\{}[]:,.-', max_size=12)
json_values = st.recursive(
    values
    | filler
    | st.integers(-99, 99)
    | st.none()
    | st.text(digits, min_size=14, max_size=14).map(lambda text: int(_card("4" + text))),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(filler | values, children, max_size=3),
    max_leaves=8,
)


def leaves(value: Any) -> list[str]:
    """Texts and numbers of a JSON value, keys included."""
    if isinstance(value, dict):
        return [leaf for name, entry in value.items() for leaf in [name, *leaves(entry)]]
    return [leaf for entry in value for leaf in leaves(entry)] if isinstance(value, list) else [str(value)]


@given(st.dictionaries(filler, json_values, max_size=4), st.lists(values, min_size=1, max_size=3))
def test_no_value_survives_and_json_stays_json(reply: dict[str, Any], said: list[str]) -> None:
    arguments = {"n": [*said, reply]}
    messages = [
        {"role": "user", "content": "See " + " and ".join(said) + " please"},
        {
            "role": "assistant",
            "content": json.dumps(reply, ensure_ascii=False),
            "reasoning_content": f"({said[0]})",
            "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": arguments}}],
        },
    ]
    before = {hit.value for text in leaves(messages) for hit in ALL.hits(text)}
    result = ALL.apply(messages)
    assert set(said) <= before
    after = leaves(result.messages) + leaves(orjson.loads(result.messages[1]["content"]))
    assert not [(value, text) for value in before for text in after if value in text]
    for value in said:
        assert not any(value in found.masked for found in result.findings)
    assert ALL.apply(result.messages).findings == ()
    placeholders = result.messages[1]["tool_calls"][0]["function"]["arguments"]["n"][: len(said)]
    assert len(set(placeholders)) == len(set(said)), "one placeholder for each value"


def test_the_lengths_of_account_numbers_are_those_of_examples_in_the_registry() -> None:
    for example in (
        "BE68539007547034",
        "CH9300762011623852957",
        "ES9121000418450200051332",
        "IT60X0542811101000000123456",
    ):
        assert IBAN_LENGTHS[example[:2]] == len(example)
        assert [hit.kind for hit in ALL.hits(example)] == ["iban"]


ORDER, CARD_NUMBER = "4000120007368804", "4111111111111111"
CALLED_IDS = [
    f"Where is order {ORDER}?",
    f"Order #{ORDER} is late",
    f"My order is {ORDER}.",
    f"tracking number: {ORDER}",
    f"Customer no. {ORDER}",
    f"Orders {ORDER} and {ORDER}",
    f"IMEI {ORDER}",
    f"Bestellnummer: {ORDER}",
    f"Zum Auftrag Nr. {ORDER} fehlt etwas",
    f"Rechnung {ORDER}",
    f"n° de commande : {ORDER}",
    f"número de pedido {ORDER}",
    f"ordine {ORDER}",
    f'{{"order_id": "{ORDER}"}}',
    f'{{"card": "visa", "trackingNumber": {ORDER}}}',
    f"**Order ID:** `{ORDER}`",
]
CALLED_CARDS = [
    f"{CARD_NUMBER}",
    f"number {CARD_NUMBER}",
    f"card number {CARD_NUMBER}",
    f"Pay order 12 with {CARD_NUMBER}",
    f"My credit card for the order {CARD_NUMBER}",
    f"Order 12 was paid with card {CARD_NUMBER}",
    f"customer {CARD_NUMBER}",
    f"Kreditkarte zur Bestellung: {CARD_NUMBER}",
    f"tarjeta {CARD_NUMBER}",
    f'{{"order_id": "12", "card_number": "{CARD_NUMBER}"}}',
    f'{{"order": 12, "number": "{CARD_NUMBER}"}}',
]


@pytest.mark.parametrize("text", CALLED_IDS)
def test_a_number_that_is_called_an_id_is_no_card(text: str) -> None:
    messages = pair(text, "ok")["messages"]
    assert ALL.apply(messages).messages == messages


@pytest.mark.parametrize("text", CALLED_CARDS)
def test_a_number_that_nothing_calls_an_id_is_a_card(text: str) -> None:
    assert "[CARD_1]" in ALL.apply(pair(text, "ok")["messages"]).messages[0]["content"]


@pytest.mark.parametrize("number", [ORDER, int(ORDER)])
def test_the_key_of_a_calls_argument_tells_what_a_number_is_everywhere_in_the_row(number: str | int) -> None:
    def called(key: str) -> list[dict[str, Any]]:
        call = {"type": "function", "function": {"name": "track", "arguments": {key: number}}}
        return [
            {"role": "user", "content": f"Where is {ORDER}?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
        ]

    assert ALL.apply(called("orderId")).messages == called("orderId")
    assert ALL.apply(called("card_number")).messages[0]["content"] == "Where is [CARD_1]?"


def test_what_a_row_calls_both_is_a_card() -> None:
    messages = pair(f"Order {ORDER}", f"Your card {ORDER}")["messages"]
    assert [one["content"] for one in ALL.apply(messages).messages] == ["Order [CARD_1]", "Your card [CARD_1]"]


@pytest.mark.parametrize("other", ["0049 30 1234567", "+49 (0)30 1234567", "+49-30-1234567"])
def test_one_telephone_number_has_one_placeholder(other: str) -> None:
    text = ALL.apply(pair(f"Ring +49 30 1234567 or {other} today", "ok")["messages"]).messages[0]["content"]
    assert text == "Ring [PHONE_1] or [PHONE_1] today"


def test_placeholders_in_replies_are_told(run: Any, tmp_path: Path, capsys: Any) -> None:
    rows = [pair(request(n), f"Paid with {CARD_NUMBER}, {own_words(n)}.") for n in range(40)]
    stats = run(write_jsonl(tmp_path / "a.jsonl", [*rows, pair(f"Is {CARD_NUMBER} a card?", "Yes.")]))
    tests = stats["splits"]["test"]["rows"]
    in_test = [row for row in kept_rows(tmp_path / "out").values() if row["split"] == "test"]
    answers = sum("[CARD_1]" in row["messages"][-1]["content"] for row in in_test)
    assert 0 < answers <= tests
    assert stats["redacted_replies"] == {"replies": 40, "test_answers": answers, "placeholders": {"[CARD_1]": 40}}
    told = f"40 supervised replies now hold [CARD_1], {answers} of them as accepted answers of test"
    assert told in capsys.readouterr().err
    assert all(told in (tmp_path / "out" / name).read_text() for name in ("README.md", "curation.html"))
