"""Replies: what is not worth learning is found for its reason, and what only looks like it stays."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.stages.curate.conftest import pair
from tunelift.config.curation import CleanConfig
from tunelift.errors import UserError
from tunelift.runtime.scripts import count_words
from tunelift.stages.curate.endings import cut_off
from tunelift.stages.curate.replies import Languages, ReplyChecks
from tunelift.stages.curate.rows import Fault

LANGUAGES = Languages()
PROSE = (
    "The harbour was built in the last century, and for a long time it was the busiest on the coast. Ships came from "
    "everywhere with wool, wine and timber. Today it is a quiet place with a museum and two cafés. "
)
DEUTSCH = (
    "Der Hafen wurde im letzten Jahrhundert gebaut und war lange Zeit der größte an der Küste. Schiffe kamen von "
    "überall her und brachten Wolle, Wein und Holz. Heute ist es ein ruhiger Ort mit einem Museum und zwei Cafés. "
)
FRANCAIS = (
    "Le port a été construit au siècle dernier et il est resté longtemps le plus actif de la côte. Les navires "
    "venaient de partout avec de la laine, du vin et du bois. Aujourd'hui c'est un endroit calme avec un musée. "
)


def examine(reply: str, request: str = "Hi", **options: Any) -> tuple[Fault | None, tuple[Fault, ...]]:
    return ReplyChecks(CleanConfig(**options)).examine(pair(request, reply)["messages"])


@pytest.mark.parametrize(
    "reply",
    [
        '{"tool": "send_mail", "arguments": {"to": "Ann"',
        '{"tool": "send_mail", "arguments": {"to": "An',
        '{"text": "a \\" b", "n": [1, 2',
        "{",
        '[{"a": 1}, {"a"',
        '[1, 2, "three',
        "[1, 2,",
        "[\n  1,\n  2",
        '[[1, 2], {"a": [3',
        '{"ready": true, "count": 1, "names": [',
        '{"ready": tru',
        '{"names": ["a"], "done": fals',
        '[{"a": nul',
        '{"text": "It ends in a sentence.',
        'Here you are: {"tool": "send_mail", "arguments": {"to": "Ann"}',
        "Use this:\n```python\nprint(1)",
        '```json\n{\n  "a": 1\n}\n```\nand then\n```',
        PROSE + "The museum shows the nets and the",
        PROSE + "It is open from nine to five because",
        PROSE + "The museum shows the nets, the maps,",
        PROSE + "The museum shows a self-",
        PROSE + "The museum shows the nets (and some of the maps",
        DEUTSCH + "Das Museum zeigt die Netze und",
        FRANCAIS + "Le musée montre les filets et les",
    ],
)
def test_a_reply_that_stops_in_the_middle_is_cut_off(reply: str) -> None:
    fault, flags = examine(reply)
    assert fault is not None
    assert (fault.reason, fault.evidence["message"], flags) == ("cut_off", 1, ())
    assert fault.evidence["text"].startswith(("JSON", "a code block", "ends with"))


@pytest.mark.parametrize(
    "reply",
    [
        '{"tool": null}',
        '{"text": "he said "hi" to her"}',
        '{"a": 1} and that is all',
        "{name}, welcome back",
        "[1] Smith et al., 2004",
        "[0, 1)",
        r"[2, \infty)",
        "[-3, 5) is the domain.",
        "[-3, 5)\nis the domain.",
        "[1, 3[ is half-open",
        "[1, 3[\n\n[4, 5[",
        "[0, 1",
        'A JSON object starts with {"key": and a value follows, until a closing brace ends it.',
        'An object may begin with {"key": 1.',
        'It starts with {"key": and ends with "}".',
        'Use `{"a": 1` only inside braces',
        '{"a": 1 is not closed, so it is no JSON',
        "[Chorus]\nLa la la",
        "{'a': 1",
        "An object begins with { and a list with [",
        "```python\nprint(1)\n```",
        "```\na\n```\n\n```\nb\n```",
        "````markdown\n```python\nprint(1)\n```\n````",
        "```markdown\nSome\n```python\nprint(1)\n```\n```",
        "Use ```x``` for code",
        "yes",
        "a table for two, please, and the",
        PROSE.strip(),
        PROSE + "Let me know if you need anything else",
        PROSE + "This is the place that we were talking about",
        PROSE + "Is there anything else I can help you with? 😀",
        PROSE + 'He called it "the best harbour of them all"',
        PROSE + "Read more at https://example.com/harbour-and-the",
        PROSE + "\n\nBest regards,\nAnn",
        PROSE + "\n\nYours sincerely,",
        PROSE + "\n- the nets, the maps and the",
        PROSE + "\n## The museum and the",
        PROSE + "\nOpening hours: from nine to five, and on Sundays by the",
        PROSE + "\nresult = open_the_door(left, right) and",
        PROSE + "\n| a | b | the museum and the nets |",
        PROSE + "このあたりは静かです",
        PROSE + "— and then she was gone —",
        "今日はとても天気がいいです" * 10,
    ],
)
def test_whatever_ends_somehow_is_not_cut_off(reply: str) -> None:
    assert cut_off(reply, LANGUAGES.of) is None


@pytest.mark.parametrize(
    "reply",
    [
        "I'm sorry, but I can't assist with that request.",
        "I’m sorry, I cannot help with that.",
        "Sorry, I can't do that.",
        "I apologize, but I am unable to provide information on that topic.",
        "Unfortunately, I'm not able to provide medical advice.",
        "As an AI language model, I don't have personal opinions.",
        "Great question! However, as an AI developed by a company, I can't predict the future.",
        "I'm just an AI, so I can't tell you what to feel.",
        "I must decline to write that.",
        "Unfortunately I am only a language model and have no hands.",
        "Sorry, I can't send messages for you.",
        "I am an artificial intelligence and do not have feelings.",
        "It would not be appropriate for me to discuss that.",
        "This request violates my guidelines.",
        "That's not something I can help with.",
        "I don't have the ability to browse the internet.",
        "I understand that you are curious, but I can't provide instructions for making weapons.",
        "Thank you for asking. I'm unable to answer that question.",
        "I'm sorry, but I could not answer that question.",
        "I cannot help with that. Is there anything else I can help you with?",
        "I can't assist with that, but I'd be happy to help with other questions. Would you like another?",
        "As an AI-powered assistant, I cannot predict the future.",
        "As an AI created by a company, my knowledge is limited.",
        "I am an AI assistant, so I can't taste it.",
        "This request is outside my capabilities.",
        "This question goes beyond my knowledge.",
        "That's beyond my capabilities.",
        "It is outside our ability to help with that.",
        "My guidelines do not allow me to provide that information.",
        "My programming prevents me from answering that question.",
        "I have to decline this request.",
        "I don't have personal opinions or feelings.",
        "I don't have personal experiences or emotions, but many people like it.",
        "I don't have feelings the way people do.",
        "I do not have the capability to access your files.",
        "Sorry, I can't see your screen.",
        "**I'm really sorry**, but I'm not comfortable writing that kind of content.",
        "Es tut mir leid, aber ich kann dir dabei nicht helfen.",
        "Als KI-Sprachmodell habe ich keine Gefühle.",
        "Leider kann ich diese Frage nicht beantworten.",
        "Je suis désolé, mais je ne peux pas vous aider avec cela.",
        "En tant que modèle de langage, je n'ai pas d'opinion.",
        "Lo siento, pero no puedo ayudarte con eso.",
        "Como modelo de lenguaje, no tengo opiniones personales.",
        "Mi dispiace, ma non posso aiutarti con questa richiesta.",
        "In quanto intelligenza artificiale, non provo emozioni.",
        "Desculpe, mas não posso ajudar com isso.",
        "Ich kann nicht helfen.",
        "Ich kann Ihnen hier leider nicht weiterhelfen.",
        "Ich kann Ihre Anfrage nicht beantworten.",
        "Ich bin nicht in der Lage, diese Frage zu beantworten.",
        "Leider darf ich keine medizinischen Ratschläge geben.",
        "Dabei kann ich dir nicht helfen.",
        "Je ne peux pas répondre à cette question.",
        "Désolé, je ne peux pas aider.",
        "Je ne peux pas vous aider à pirater un compte.",
        "Malheureusement, je ne peux pas fournir de conseils médicaux.",
        "Je ne peux pas accéder à Internet.",
        "Je suis désolée, je ne suis pas en mesure de répondre à votre demande.",
        "Je ne peux pas vous donner d'instructions pour cela.",
        "No puedo responder a esa pregunta.",
        "Lo siento, no puedo ayudar con esa solicitud.",
        "No puedo proporcionar información sobre ese tema.",
        "Lo siento, no puedo ofrecerte asesoramiento médico.",
        "Lamentablemente, no puedo cumplir con tu solicitud.",
        "No puedo acceder a internet.",
        "Mi dispiace, non posso aiutarti.",
        "Non posso rispondere a questa domanda.",
        "Purtroppo non posso fornire consigli medici.",
        "Non posso accedere ai tuoi file.",
        "Non posso soddisfare la tua richiesta.",
        "Não posso responder a essa pergunta.",
        "Desculpe, não posso fornecer aconselhamento médico.",
        "Não posso ajudá-lo com esse pedido.",
        "Infelizmente, não posso atender ao seu pedido.",
        "Não consigo acessar a internet.",
        "I cannot provide medical advice, but you should see a doctor as soon as you can.",
        "I can't help with that, but a trained professional will be able to help you.",
        "I'm sorry, but I do not have access to real-time data.",
        "Como um modelo de linguagem, não tenho opiniões.",
    ],
)
def test_a_refusal_is_found_in_six_languages(reply: str) -> None:
    fault, _ = examine(reply)
    assert fault is not None
    assert fault.reason == "refusal"
    assert fault.evidence["text"] in reply


@pytest.mark.parametrize(
    "reply",
    [
        "I'm sorry to hear that you are feeling down. Here are a few things that may help.",
        "I'm sorry for the confusion. The capital of Australia is Canberra.",
        "Sorry for the delay! Your order ships on Monday.",
        "I can't help but notice how lovely the light is.",
        "I cannot recommend this place enough!",
        "Sorry, I can't make it tonight. My sister is in town.",
        "I am unable to attend the meeting on Tuesday.",
        "I can't find my keys anywhere, she thought.",
        'Once upon a time a wizard said, "I can\'t help you with that." The knight left.',
        "Once upon a time a wizard said: 'I can't help you with that.' The knight left.",
        'The phrase "As an AI language model, I cannot" is typical of chatbots.',
        "GPT-4 is known as an AI language model that writes text.",
        "As an AI researcher, you would read papers every day.",
        "Unfortunately, your refund cannot be processed before Monday.",
        "I can't give you enough thanks for your support.",
        "As an AI researcher, I spend my days in front of plots.",
        "As an AI company, we ship fast.",
        "As a language model engineer, I do not sleep much.",
        "I'm an AI researcher, so I can't complain about my salary.",
        "I am a machine learning engineer and I don't do front ends.",
        "Als KI-Forscher bin ich viel unterwegs.",
        "Dear Tom,\n\nThank you. Unfortunately, I won't be able to help with the event on Friday.\n\nYours,\nAnn",
        "Here is a letter:\n\nHi Tom,\n\nUnfortunately, I won't be able to help with the event on Friday.",
        "Subject: Friday\n\nUnfortunately, I can't help with that.",
        "Cher Paul,\n\nMalheureusement, je ne peux pas vous aider vendredi.",
        "Sehr geehrte Frau Roth,\n\nleider kann ich Ihnen dabei nicht helfen.",
        "Liebe Frau Roth,\n\nleider kann ich Ihnen dabei nicht helfen.",
        "I can't see your order yet. Could you give me the order number?",
        "Our policy does not allow refunds after 30 days.",
        "Our policies do not cover water damage. Please see section 4 of the contract.",
        "We have to decline your offer, since the price is above our budget.",
        "We must refuse the delivery, since two of the boxes are broken.",
        "That is outside our scope of delivery: the batteries are sold separately.",
        "It goes against our ethics to test on animals.",
        "My programming does not include error handling yet; add a try block.",
        "Our training does not start before May.",
        "I can't see your point: the argument assumes what it sets out to prove.",
        "I can't read your handwriting on page 2.",
        "I don't have personal experience with this bike, but reviews say that it is sturdy.",
        "I don't have feelings for him anymore, she said, and closed the door.",
        "I have no ability to lift more than 20 kg.",
        "I couldn't answer the question. My palms were sweating, and the class was staring at me.",
        "No, I can't do that on Friday, but Saturday at 10 works",
        "I could not open your attachment. Please resend it as a PDF.",
        "I'm sorry, I couldn't open your attachment. Please resend it as a PDF.",
        "We cannot access your account yet. Which is the address you signed up with? What is your user name?",
        "I can't help with the boxes, but I can bring the van.",
        "This request is outside my budget.",
        "This request violates the speed limit of the bus.",
        "The question cannot be answered from the passage.",
        "Ich kann Ihre Anfrage noch nicht bearbeiten. Könnten Sie mir die Nummer nennen?",
        "Dear Ms Lee, I am sorry, but I cannot provide the report before Friday.",
        "If you can't do that, try restarting the router.",
        "I won't do that again, I promise.",
        "I couldn't find any flights on that day. Would the day after work?",
        "It's something we can help with.",
        "Es tut mir leid, dass du krank bist. Gute Besserung!",
        "Leider kann ich am Freitag nicht kommen.",
        "Das kann man nicht so einfach beantworten, denn es hängt vom Wetter ab.",
        "Je ne peux pas venir demain soir.",
        "No puedo ir a la fiesta mañana.",
        "Como modelo de lenguaje, GPT-2 fue un avance importante.",
        "Non posso venire alla festa.",
        "Não posso ir à festa.",
        "Je ne peux pas répondre au téléphone maintenant.",
        "Je ne peux pas aider mon frère demain.",
        "Je ne peux pas vous répondre avant lundi.",
        "Je ne peux pas donner de date pour le concert.",
        "Je ne peux pas écrire ce soir.",
        "No puedo ofrecerle más de veinte euros por la bicicleta.",
        "No puedo asistir a la reunión del lunes.",
        "No puedo contestar el teléfono ahora.",
        "No puedo ayudar a mi hermano mañana.",
        "No puedo hacer esta semana el viaje.",
        "Non posso accedere alla mia casella di posta.",
        "Non posso assistere alla riunione di lunedì.",
        "Non posso rispondere al telefono adesso.",
        "Non posso offrire più di venti euro per la bicicletta.",
        "Não consigo acessar meu e-mail.",
        "Não posso ajudar meu irmão amanhã.",
        "Não posso oferecer mais de vinte euros pela bicicleta.",
        "Não posso atender o telefone agora.",
        "Ich kann das Telefon gerade nicht beantworten.",
        "Ich kann meinem Bruder morgen nicht helfen.",
        "Ich bin nicht bereit, ihm Geld zu geben.",
        "I cannot provide medical advice, but common causes of a headache include thirst, stress and poor sleep.",
        "Sorry, I do not have enough information to answer.",
        "I'm sorry, I don't have the information to answer that question.",
        "I'm sorry, but the provided context does not contain the answer.",
        "I cannot answer this question based on the provided context.",
        "I'm sorry, I can't answer that question. The passage does not say when it was built.",
    ],
)
def test_an_apology_or_a_refusal_told_by_somebody_is_none(reply: str) -> None:
    assert examine(reply) == (None, ())


def test_any_assistant_turn_counts_and_no_user_turn() -> None:
    refused, fine = (
        pair("Hi", "I can't help with that.")["messages"],
        pair("I can't help with that.", "OK.")["messages"],
    )
    checks = ReplyChecks(CleanConfig())
    fault, _ = checks.examine(refused + fine)
    assert fault == Fault("refusal", {"message": 1, "text": "I can't help with that."})
    assert checks.examine(fine) == (None, ())


def test_what_is_only_reported_is_flagged_and_what_is_off_is_not_looked_for() -> None:
    reply = "I can't help with that: {" + '"a": '
    assert examine(reply)[0].reason == "refusal"  # type: ignore[union-attr]
    fault, flags = examine(reply, refusals="report", cut_off="report")
    assert fault is None
    assert [flag.reason for flag in flags] == ["refusal", "cut_off"]
    fault, flags = examine(reply, refusals="report")
    assert fault is not None
    assert (fault.reason, [flag.reason for flag in flags]) == ("cut_off", ["refusal"])
    assert examine(reply, refusals="off", cut_off="off") == (None, ())


@pytest.mark.parametrize(
    ("text", "allowed", "found"),
    [
        (DEUTSCH, ("en",), "de"),
        (FRANCAIS, ("en", "de"), "fr"),
        (PROSE, ("de",), "en"),
        (PROSE, ("en",), None),
        (DEUTSCH, ("en", "de"), None),
        (DEUTSCH, (), None),
        ("Das ist kurz.", ("en",), None),
        ("港は前世紀に建設され、長い間海岸で最も忙しい港でした。今は静かな場所です。", ("en",), "ja"),
        ("```python\nfür = über + größe\n```\n" * 20 + "Fine.", ("en",), None),
        (json.dumps({"ort": "Köln", "strasse": "Große Straße"}) * 3, ("en",), None),
    ],
)
def test_the_language_of_a_text_of_twenty_words_is_judged(
    text: str, allowed: tuple[str, ...], found: str | None
) -> None:
    for fault, _ in (examine(text, languages=allowed, cut_off="off"), examine("OK.", text, languages=allowed)):
        assert (fault.evidence["language"] if fault else None) == found
        if fault:
            assert fault.reason == "wrong_language"
            assert 0.65 <= fault.evidence["confidence"] <= 1


def test_plain_english_needs_no_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the detector is asked")

    monkeypatch.setattr(Languages, "shares", refuse)
    assert examine(PROSE, PROSE, languages=("en",), cut_off="off") == (None, ())
    with pytest.raises(AssertionError, match="is asked"):
        examine(DEUTSCH, languages=("en",), cut_off="off")


def test_the_language_is_found_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("the detector connects to a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert Languages().of(DEUTSCH) == "de"


def test_lengths_are_counted_in_words_of_the_last_reply() -> None:
    assert examine("two words", min_reply_words=2, max_reply_words=2) == (None, ())
    few = Fault("reply_too_few_words", {"message": 1, "words": 2, "limit": 3})
    assert examine("two words", min_reply_words=3) == (few, ())
    many = Fault("reply_too_many_words", {"message": 1, "words": 2, "limit": 1})
    assert examine("two words", max_reply_words=1) == (many, ())
    assert count_words("今日は good 天気") == 6


SCHEMA = {
    "type": "object",
    "required": ["tool"],
    "properties": {"tool": {"type": ["string", "null"]}, "n": {"type": "array", "items": {"type": "integer"}}},
}


def test_a_reply_that_the_schema_refuses_is_dropped_with_the_place_and_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "reply.schema.json"
    path.write_text(json.dumps(SCHEMA))
    checks = ReplyChecks(CleanConfig(reply_schema=str(path), cut_off="off"))

    def fault(reply: str) -> Fault | None:
        return checks.examine(pair("Hi", reply)["messages"])[0]

    assert fault('{"tool": null, "n": [1]}') is None
    wrong = fault('{"tool": "a", "n": [1, "x"]}')
    assert wrong == Fault("reply_not_valid", {"message": 1, "path": "$.n[1]", "detail": "'x' is not of type 'integer'"})
    missing = fault("{}")
    assert missing is not None
    assert missing.evidence["detail"] == "'tool' is a required property"
    prose = fault("hello")
    assert prose is not None
    assert prose.evidence["detail"].startswith("is no JSON: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        ("{", "This is no JSON"),
        ('{"type": "objekt"}', "is no JSON schema"),
        ('{"$ref": "https://example.com/a.json"}', "refers to 'https://example.com/a.json', which is not in it"),
    ],
)
def test_a_schema_that_cannot_judge_says_so_with_its_file(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "reply.schema.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        ReplyChecks(CleanConfig(reply_schema=str(path)))
    assert caught.value.where == str(path)
    assert caught.value.remedy


def test_only_supervised_replies_are_judged() -> None:
    refused, cut = "I'm sorry, but I can't help with that.", '{"a": [1, 2'
    turns = [*pair("Hi", refused)["messages"], *pair("And?", "Two words")["messages"], *pair("So?", cut)["messages"]]
    turns[1]["weight"] = turns[5]["weight"] = 0
    checks = ReplyChecks(CleanConfig(min_reply_words=2, max_reply_words=2))
    assert checks.examine(turns) == (None, ())
    del turns[1]["weight"]
    assert checks.examine(turns)[0].reason == "refusal"
    turns[1]["weight"], turns[3]["content"] = 0, "three words now"
    fault = checks.examine(turns)[0]
    assert (fault.reason, fault.evidence["message"]) == ("reply_too_many_words", 3)
