"""Replies that refuse, or speak as an AI model, in six languages.

A refusal says at its beginning, or after an opening clause, that the speaker cannot help with what was asked; it is
known by a verb of helping or answering. To come, to sleep, to find a key are no such verbs: a letter that the user asked
for may say that one cannot come. What stands in quotation marks is somebody else's, and so is a letter. Who asks for what is
missing, offers something in its place, or says that the text asked about does not have it, does not refuse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tunelift.stages.curate.refusals_abroad import NEAR, OTHERS, any_of, compiled

HEAD_CHARACTERS = 320
"""A refusal begins within so many characters of the reply."""
LONGEST = 400
"""Characters after its beginning in which a refusal is complete."""
GOES_ON_CHARACTERS = 240
"""So soon after a refusal stands what is asked for or offered."""

_AI = r"(?:ai|a\.i\.|artificial intelligence)"

# English: (sorry, but) I cannot + help; or + provide + (such) instructions.
_SORRY = any_of(
    r"(?:i'm|i am|we're|we are)(?: so| very| really| truly| deeply| terribly)? (?:sorry|afraid)",
    r"sorry",
    r"(?:i|we)(?: sincerely| must| do)? apologi[sz]e",
    r"(?:my |our )?(?:sincere |sincerest |deepest )?apologies",
    r"regrettably",
    r"unfortunately",
    r"i regret(?: to say)?",
)
_LINK = (
    r"(?: for (?:any|the) \w+)?(?:[,.;:!]| -| —)?(?: but| that| however)?,?"
    r"(?: unfortunately,?| regrettably,?| at this time,?)? "
)
_MAY = any_of(
    "allowed", "permitted", "authori[sz]ed", "programmed", "designed", "trained", "equipped", "prepared", "willing"
)
_KNOWN = any_of("information", "data", "details", "context", "facts", "numbers?")
"""Whoever lacks it does not refuse: so answers a reader of a text that does not say it."""
_CANNOT = (
    any_of("i", "we")
    + r"(?: just| simply| really| do| currently| also| still| must)*"
    + any_of(
        r" can't", r" cannot", r" can not", r" won't(?: be able to)?",
        r" will not(?: be able to)?", r"(?:'m| am|'re| are) (?:unable|not able) to",
        rf"(?:'m| am|'re| are) not {_MAY} to", r"(?:'m| am|'re| are) not (?:comfortable|capable of|going to)",
        r" (?:don't|do not) feel comfortable", r"(?: refuse| decline| have to decline| have to refuse) to",
        r"(?:'d| would) (?:rather|prefer) not(?: to)?", rf" (?:don't|do not) (?:have|possess) the (?!{_KNOWN})\w+ to", r" lack the \w+ to", r" (?:don't|do not) think (?:i|we) can",
    )
    + r"(?: directly| really| ethically| responsibly| legally| in good conscience| knowingly| personally| actually)*"
)  # fmt: skip
_COULD_NOT = any_of("i", "we") + r"(?: just| simply| really)* (?:couldn't|could not)"
"""Without an apology, the beginning of a story."""
_HELP = any_of(
    r"be of (?:any )?(?:help|assistance)",
    r"help(?:ing)?(?=[.,;!]|$| (?:you|with|anyone|to|in|out|on|plan|create|write|find|make)\b)"
    r"(?! with (?:the |our |your )?(?:dishes|move|rent|party|dinner))",
    r"assist(?:ing)?\b(?! in person)",
    r"comply(?:ing)?\b",
    r"fulfill?(?:ing)?\b",
    r"oblige\b",
    r"do (?:that|this|so)(?=[.,;:!]|$| (?:for you|as|because|since)\b)",
    r"engag(?:e|ing) (?:in|with)\b",
    r"participat(?:e|ing) in (?:that|this|such|any)",
    r"(?:proceed|go along) with (?:that|this|your|such)",
    r"condone\b",
    r"role-?play\b",
    r"pretend to\b",
    r"speculate\b",
    r"[^.!?\n]{1,40} for you(?=[.,;!]|$)",
    r"(?:control|operate|manage) (?:\w+ ){0,3}(?:devices?|lights?|appliances?|thermostats?|home)\b",
    r"(?:set|create|schedule|add|manage) (?:\w+ ){0,2}(?:alarms|reminders|timers|events|meetings|appointments)\b",
    r"(?:send|write|read) (?:\w+ )?(?:messages|e-?mails|texts)\b",
    r"(?:make|place|take) (?:\w+ )?(?:calls|orders|reservations|bookings|purchases|payments)\b",
    r"play (?:\w+ )?(?:music|songs|videos|audio)\b",
    r"access your \w+",
    r"(?:see|view|read|check|open) your (?:\w+ ){0,2}(?:screen|files?|documents?|folders?|attachments?|images?|photos?|pictures?|"
    r"videos?|links?|e-?mails?|messages|inbox|calendar|contacts|location|camera|accounts?|profile|orders?|data|history|"
    r"device|computer|phone)\b",
    r"(?:perform|take|carry out) (?:\w+ )?(?:actions?|tasks)\b",
    r"browse\b",
)
_MAKE = (
    any_of(
        "provid", "giv", "offer", "shar", "suppl", "answer", "respond", "discuss", "disclos", "reveal", "complet", "generat",
        "creat", "writ", "produc", "compos", "craft", "draft", "perform", "execut", "carry out", "process", "satisf",
        "accommodat", "facilitat", "promot", "endors", "encourag", "support", "recommend", "advis", "continu", "display",
        "translat", "summari[sz]", "address", "handl", "mak", "predict", "express", "comment", "determin", "verif",
        "access", "retriev", "view", "open", "see", "read", "look up", "search", "play", "check", "tell you",
    )
    + r"\w*"
)  # fmt: skip
_WHAT = r"(?:(?! (?:enough|up|by|before|until|till|my|our)\b)[^.!?\n]){0,60}? " + any_of(
    r"that(?=[.,;!]|$| (?:kind|type|sort|request|question|topic|subject|for you|content|information|as)\b)",
    r"this(?=[.,;!]|$| (?:kind|type|sort|request|question|for you|content|information|as|task|topic)\b)",
    r"(?:such|these kinds|those kinds|harmful|illegal|real-?time|explicit|sensitive|confidential|copyrighted|hateful)\b",
    r"(?:your|the) (?:request|question|inquiry|query|demand|prompt|task|internet|web|links?|files?|images?)\b",
    r"(?:an? )?(?:accurate |specific |direct |definitive |personal |current )*(?:answers?|responses?|opinions?)\b",
    r"(?:any|a request|requests|information|content|instructions?|advice|details|guidance|assistance|recommendations?)\b",
    r"(?:explanations?|code|images?|pictures?|urls?|links|external|personal|private|live|current|jokes?|diagnos[ie]s)\b",
    r"(?:predictions?|web ?sites?|online)\b",
)
_DOES = rf"(?:{_HELP}|{_MAKE}{_WHAT})"
"""What one who refuses will not do. Without it, a rule, a scope or an ability is anybody's: of a shop, or of a story."""
_REQUEST = r"(?:this|that|your|the) (?:request|question|prompt|query|topic)"
_RULES = r"(?:(?:my|our|the|any|safety|content|ethical|usage|community) ){1,3}(?:guideline|polic|programming|ethic|principle|rules|terms)"
_NOT_FOR_ME = r"(?:that's|that is|this is|it's|it is) (?:not (?:something|anything) (?:that )?(?:i|we)|something (?:that )?(?:i|we) (?:can't|cannot|won't|am not))"
_OUTSIDE = r"(?:is |would be |goes |falls )?(?:well )?(?:beyond|outside|against)(?: of)?(?: the scope of)?"
_MINE = r"(?:my|our) (?:capabilit|abilit|scope|guideline|polic|programming|knowledge|expertise|training|ethic)"
_FEELING = r"(?:opinion|belief|preference|emotion|feeling|experience)s"
_INNER = (
    rf"(?:personal (?:opinion|belief)s?\b|(?:personal {_FEELING}|feelings|emotions)(?:,? (?:or|and|nor) (?:personal )?(?:{_FEELING}|"
    r"thoughts|consciousness)| as an? | like (?:a )?(?:humans?|people|person)\b| (?:in )?the (?:same )?way\b))"
)
"""What a machine says that it lacks: of one thing or person anybody may have no experience, and no feelings for them."""
ENGLISH = compiled(
    rf"(?:{_SORRY}{_LINK}(?:{_CANNOT}|{_COULD_NOT})|(?:no, )?{_CANNOT}) {_DOES}",
    rf"(?:{_SORRY}{_LINK})?{_NOT_FOR_ME}\b{NEAR} (?:help|assist|do|answer|provide|discuss|support|share|engage)\b",
    rf"(?:{_SORRY}{_LINK})?(?:i|we)(?:'ll)? ?(?:must|have to|need to|will have to|'m going to have to|am going to have to)(?: respectfully| politely)? (?:decline|refuse)"
    rf"(?: {_REQUEST}\b| to (?:{_HELP}|{_MAKE}))",
    rf"(?:{_SORRY}{_LINK})?it(?:'s| is| isn't| would| wouldn't)(?: not)?(?: be)? (?:in)?(?:appropriate|ethical|possible|"
    r"unethical|irresponsible|impossible|right|wrong) for me to (?:help|assist|provid|answer|discuss|writ|creat|generat|giv|"
    r"offer|shar|engag|comment|do (?:that|this|so))",
    rf"(?:{_SORRY}{_LINK})?{_REQUEST} (?:(?:violates|goes against|is against|conflicts with) {_RULES}|is (?:inappropriate|"
    r"harmful|unethical|not appropriate)|asks for something i)",
    rf"{_SORRY}{_LINK}{_REQUEST} cannot be (?:fulfilled|answered|completed)",
    rf"(?:{_SORRY}{_LINK})?{_REQUEST} {_OUTSIDE} {_MINE}",
    rf"(?:{_SORRY}{_LINK})?(?:that|this|it)(?:'s)? {_OUTSIDE} {_MINE}\w*(?: as an? {_AI}\b| to {_DOES})",
    rf"(?:{_SORRY}{_LINK})?(?:that|this|it)(?:'s)? {_OUTSIDE} my (?:capabilities|programming|guidelines)(?=[.,;!]|$)",
    rf"{_SORRY}{_LINK}(?:i|we) (?:do not|don't) (?:have|possess)(?: any| the)? (?:access|real-?time)\b",
    rf"(?:{_SORRY}{_LINK})?i (?:do not|don't|have no)(?: have| possess)?(?: any| direct)? (?:access to (?:real-?time|the internet|"
    rf"current|live|external|your|personal|private|up-to-date)|real-?time|{_INNER}|(?:the )?(?:ability|capability|capacity) to "
    rf"{_DOES}|way of (?:access|verif)\w*{_WHAT})",
    r"(?:my|our) (?:safety |content )?(?:guidelines|polic(?:y|ies)|programming|training) (?:(?:do not|don't|does not|doesn't|won't) "
    rf"(?:allow|permit|let|enable)|prevents?|prohibits?|forbids?) me(?: to| from)? {_DOES}",
)

_MACHINE = (
    rf"(?:{_AI}|language model|llm|chatbot)(?:[- ](?:powered|based|driven|large|language|text|chat|virtual|digital|conversational))*"
    r"(?:[- ](?:model|assistant|system|(?:chat)?bot|program|agent|entity))?"
    r"(?: (?:developed|created|made|trained|built|designed|programmed|called|named) [\w -]{1,40})?"
)
"""A researcher or company with AI before it is no machine."""
AS_AN_AI = compiled(
    rf"(?:as|being) an? (?:[\w-]+ )?{_MACHINE},? (?:i|my|it's|it is|we|cannot|can't|do not|don't)\b",
    rf"i(?:'m| am)(?: just| only| merely| simply| still)? an? (?:large )?(?:{_AI} )?(?:language model|llm)\b",
    rf"i(?:'m| am)(?: just| only| merely| simply| still)? an? (?:{_MACHINE}|machine|computer program),? (?:so|and|"
    r"which means|therefore),? (?:i |that i )?(?:can't|cannot|don't|do not|am not|'m not|am unable|lack|have no)",
    r"als (?:eine? )?(?:großes )?(?:ki|künstliche intelligenz|sprachmodell)"
    r"(?:[- ](?:\w*modell|\w*assistent(?:in)?|system|chatbot|basierte\w*|gestützte\w*)){0,2},? "
    r"(?:bin|habe|kann|darf|besitze|verfüge|möchte|werde|ist es mir|fehlt) ?",
    r"ich bin (?:nur |lediglich |bloß )?eine? (?:ki\b|künstliche intelligenz|(?:ki-)?sprachmodell)",
    r"en tant (?:qu'|que )(?:une? )?(?:grand )?(?:ia\b|intelligence artificielle|modèle (?:de langage|linguistique|d'ia)|"
    rf"assistante? (?:ia|virtuel)){NEAR}, (?:je|j'|il m'|mon|ma)",
    r"je (?:ne )?suis (?:qu'|seulement |juste )?une? (?:ia\b|intelligence artificielle|modèle de langage)",
    r"como (?:una? )?(?:gran )?(?:ia\b|inteligencia artificial|modelo (?:de lenguaje|de ia|lingüístico)|asistente (?:de ia|virtual))"
    rf"{NEAR}, (?:no|mi|yo|carezco|solo|debo|tengo)\b",
    r"soy (?:solo |sólo |solamente )?una? (?:ia\b|inteligencia artificial|modelo de lenguaje)",
    r"(?:in quanto|come|essendo) (?:un'|una? )?(?:ia\b|intelligenza artificiale|modello (?:linguistico|di linguaggio)|"
    rf"assistente (?:ia|virtuale)){NEAR}, (?:non|la mia|il mio|posso|devo)\b",
    r"sono (?:solo |soltanto )?(?:un'|una? )(?:ia\b|intelligenza artificiale|modello (?:linguistico|di linguaggio))",
    r"como (?:uma? )?(?:ia\b|inteligência artificial|modelo (?:de linguagem|de ia)|assistente (?:de ia|virtual))"
    rf"{NEAR}, (?:não|eu|minha|meu|devo)\b",
    r"(?:eu )?sou (?:apenas |só |somente )?uma? (?:ia\b|inteligência artificial|modelo de linguagem)",
)
"""At the beginning of any sentence or clause of the reply."""
AI_HINTS = (
    "ai ", "ai,", "ai-", "a.i.", "artific", "language mod", "llm", "chatbot", "als ki", "eine ki", "künstliche", "sprachmodell", "ia,",
    "ia ", "ia.", "de langage", "linguist", "lenguaje", "linguagg", "linguagem", "virtual", "a computer", "a machine",
)  # fmt: skip
"""A text without any of these holds none of `AS_AN_AI`."""
LETTER = re.compile(
    r"^(?:[^\w\n]|_)*+(?:(?:subject|betreff|objet|asunto|oggetto|assunto)\W*:|(?:dear|liebe[rs]?|sehr geehrter?|ch[eè]re?|estimad[oa]s?|querid[oa]s?|"
    r"gentile|car[oa]|prezad[oa])\s+[^\n]{1,60},|(?:hi|hello|hey|hallo|bonjour|hola|ciao|olá)\s+[^.!?,\n]{1,40},\s*\n)",
    re.MULTILINE,
)
"""A line with which a letter begins."""
_NO_OTHER = r"(?![^.!?\n]*\b(?:else|other|another|different)\b)"
"""Any other question is what those who refuse ask for."""
_ONESELF = r"(?:i|i'm|i'd|i'll|i've|we|we're|if|please|feel|you|let|thank\w*|don't|do|is|are|that|this|it|it's|rest|know|remember)\b"
"""So goes on who says no more than that."""
_TEXT = r"(?:the|this|these|your) (?:\w+ )?(?:context|passage|text|documents?|article|excerpt|paragraph|sources?)\b"
GOES_ON = compiled(
    rf"\b(?:could|can|would|will) you\b{_NO_OTHER}[^.!?\n]*\?",
    r"\bplease (?:\w+ly )?(?:re-?send|send|provide|share|give|upload|attach|paste|enter|confirm|specify|reply|try again|describe)\b",
    r"\b(?:what|which)(?: is|'s| are)? (?:your|the)\b[^.!?\n]*\?",
    rf"\b(?:but|however,?|instead,?) (?:i|we)(?: can| could| will|'ll|'d| would)\b{_NO_OTHER}",
    rf"\bbut (?!{_ONESELF})(?![^.!?\n]*\b(?:help|assist|support|resources?|professionals?|experts?|consult\w*|seek\w*|contact\w*)\b)[^.!?\n]{{30}}",
    rf"\b(?:based (?:only |solely )?on|from|using|given|in|with) (?:only )?{_TEXT}",
    rf"\b{_TEXT}(?: (?:you )?(?:provided|given|gave))? (?:does|do|did)(?:n't| not) (?:contain|mention|say|state|include|provide|specify|give|cover)\b",
    r"\bbut [^.!?\n]{1,60} (?:works?|would work|would be (?:fine|good|possible)|is (?:fine|free|possible|open))\b",
    rf"\b(?:how|what) about\b{_NO_OTHER}",
    r"\b(?:können|könnten|könntest|kannst|würden|würdest) (?:sie|du)\b[^.!?\n]*\?",
    r"\b(?:pouvez|pourriez|peux|pourrais)-(?:vous|tu)\b[^.!?\n]*\?",
    r"\b(?:puedes?|podrías?|puoi|può|potresti|potrebbe|pode|podes|poderia) [^.!?\n]*\?",
)
"""Asks for what is missing, offers something in its place, or names the text that does not have it."""
LEADS = (" but", " and", " that", " since", " because", "unfortunately", "sorry", "afraid", "regrettably")
"""Words behind which a clause begins, too."""
CLAUSE = re.compile(
    r"[.!?:;]\s+|\n\s*|,\s+(?:but|however|so|and|aber|mais|pero|ma|mas)\s+|,\s+(?=i'm afraid|i am afraid)|\s+[-–—]\s+"
)
"""Behind these begins a sentence or clause."""
OPENER = re.compile(
    r"[\s\W_]*(?:(?:oh|hm+|well|ah|uh|hello|hi|hey|thank you[^.!?,\n]{0,50}|thanks[^.!?,\n]{0,50}|okay|ok)[,.!]*\s+)?"
)


def refusal(reply: str) -> str | None:
    """The line of a reply in which it refuses or speaks as an AI model, from there on; None if it does not."""
    text = _plain(reply)
    head = text[: HEAD_CHARACTERS + LONGEST]
    for start in _starts(head):
        match = ENGLISH.match(head, start) or OTHERS.match(head, start)
        if match and not _of_others(text, start) and not _goes_on(text, match.end()):
            return reply[start:].partition("\n")[0]
    if any(hint in text for hint in AI_HINTS):
        for match in AS_AN_AI.finditer(text):
            if _begins_clause(text, match.start()) and not _of_others(text, match.start()):
                return reply[match.start() :].partition("\n")[0]
    return None


def _plain(reply: str) -> str:
    """In lower case and with one apostrophe, character for character."""
    lowered = reply.lower()
    if len(lowered) != len(reply):  # A few letters grow, such as İ.
        lowered = "".join(small if len(small := letter.lower()) == 1 else letter for letter in reply)
    return lowered.replace("’", "'").replace("´", "'").replace("‘", "'")


def _starts(head: str) -> Iterator[int]:
    opener = OPENER.match(head)
    first = opener.end() if opener else 0
    yield from {0, first}
    for match in CLAUSE.finditer(head, first, HEAD_CHARACTERS):
        yield match.end()


def _begins_clause(text: str, position: int) -> bool:
    before = text[max(0, position - 16) : position].rstrip(" *_")
    return not before or before[-1] in ".!?:;,\n-–—(" or before.endswith(LEADS)


def _of_others(text: str, position: int) -> bool:
    """Whether a quotation is open there, or a letter has begun."""
    before = text[:position]
    marks = sum(before.count(mark) for mark in '"“”„«»')
    return marks % 2 == 1 or before.rstrip()[-1:] == "'" or bool(LETTER.search(before))


def _goes_on(text: str, position: int) -> bool:
    return bool(GOES_ON.search(text, position, position + GOES_ON_CHARACTERS))
