"""Replies that refuse, or speak as an AI model, in six languages.

A refusal says at its beginning, or after an opening clause, that the speaker cannot help with what was asked; it is
known by a verb of helping or answering. To come, to sleep, to find a key are no such verbs: a letter that the user asked
for may say that one cannot come. What stands in quotation marks is somebody else's, and so is a letter. Who asks for what is
missing, or offers something in its place, does not refuse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

HEAD_CHARACTERS = 320
"""A refusal begins within so many characters of the reply."""
LONGEST = 400
"""Characters after its beginning in which a refusal is complete."""
GOES_ON_CHARACTERS = 240
"""So soon after a refusal stands what is asked for or offered."""


def _any(*alternatives: str) -> str:
    return "(?:" + "|".join(alternatives) + ")"


def _compiled(*alternatives: str) -> re.Pattern[str]:
    """For text in lower case, with ' for any apostrophe; a space stands for any white space."""
    return re.compile(_any(*alternatives).replace(" ", r"\s"))


_NEAR = r"[^.!?\n]{0,70}?"
"""Some words of the same sentence."""

_AI = r"(?:ai|a\.i\.|artificial intelligence)"

# English: (sorry, but) I cannot + help; or + provide + (such) instructions.
_SORRY = _any(
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
_MAY = _any(
    "allowed", "permitted", "authori[sz]ed", "programmed", "designed", "trained", "equipped", "prepared", "willing"
)
_CANNOT = (
    _any("i", "we")
    + r"(?: just| simply| really| do| currently| also| still| must)*"
    + _any(
        r" can't", r" cannot", r" can not", r" won't(?: be able to)?",
        r" will not(?: be able to)?", r"(?:'m| am|'re| are) (?:unable|not able) to",
        rf"(?:'m| am|'re| are) not {_MAY} to", r"(?:'m| am|'re| are) not (?:comfortable|capable of|going to)",
        r" (?:don't|do not) feel comfortable", r"(?: refuse| decline| have to decline| have to refuse) to",
        r"(?:'d| would) (?:rather|prefer) not(?: to)?", r" (?:don't|do not) (?:have|possess) the \w+ to", r" lack the \w+ to", r" (?:don't|do not) think (?:i|we) can",
    )
    + r"(?: directly| really| ethically| responsibly| legally| in good conscience| knowingly| personally| actually)*"
)  # fmt: skip
_COULD_NOT = _any("i", "we") + r"(?: just| simply| really)* (?:couldn't|could not)"
"""Without an apology, the beginning of a story."""
_HELP = _any(
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
    _any(
        "provid", "giv", "offer", "shar", "suppl", "answer", "respond", "discuss", "disclos", "reveal", "complet", "generat",
        "creat", "writ", "produc", "compos", "craft", "draft", "perform", "execut", "carry out", "process", "satisf",
        "accommodat", "facilitat", "promot", "endors", "encourag", "support", "recommend", "advis", "continu", "display",
        "translat", "summari[sz]", "address", "handl", "mak", "predict", "express", "comment", "determin", "verif",
        "access", "retriev", "view", "open", "see", "read", "look up", "search", "play", "check", "tell you",
    )
    + r"\w*"
)  # fmt: skip
_WHAT = r"(?:(?! (?:enough|up|by|before|until|till|my|our)\b)[^.!?\n]){0,60}? " + _any(
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
ENGLISH = _compiled(
    rf"(?:{_SORRY}{_LINK}(?:{_CANNOT}|{_COULD_NOT})|(?:no, )?{_CANNOT}) {_DOES}",
    rf"(?:{_SORRY}{_LINK})?{_NOT_FOR_ME}\b{_NEAR} (?:help|assist|do|answer|provide|discuss|support|share|engage)\b",
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
    rf"{_SORRY}{_LINK}(?:i|we) (?:do not|don't) (?:have|possess)(?: any| enough| sufficient| the)? (?:access|information|"
    r"knowledge|real-?time|data)\b",
    rf"(?:{_SORRY}{_LINK})?i (?:do not|don't|have no)(?: have| possess)?(?: any| direct)? (?:access to (?:real-?time|the internet|"
    rf"current|live|external|your|personal|private|up-to-date)|real-?time|{_INNER}|(?:the )?(?:ability|capability|capacity) to "
    rf"{_DOES}|way of (?:access|verif)\w*{_WHAT})",
    r"(?:my|our) (?:safety |content )?(?:guidelines|polic(?:y|ies)|programming|training) (?:(?:do not|don't|does not|doesn't|won't) "
    rf"(?:allow|permit|let|enable)|prevents?|prohibits?|forbids?) me(?: to| from)? {_DOES}",
)

# The other languages: the same two parts, with the verbs of helping and answering that make it a refusal.
_DE_SORRY = r"(?:es tut mir|tut mir)(?: sehr| wirklich)? leid|leider|entschuldigung|entschuldigen sie|verzeihung|bedauerlicherweise"
_DE_HELP = _any(
    "(?:weiter)?helfen", "behilflich", "unterstützen", "beantworten", "bereitstellen", "nachkommen", "erfüllen", "entsprechen",
    r"(?:antwort|auskunft|auskünfte|rat|ratschläge|informationen|anleitung|anweisungen|tipps|details|hilfe)\w* "
    r"(?:\w+ )?(?:geben|erteilen|liefern|anbieten|leisten)",
    r"(?:so etwas|so einen?|das|dies|solchen?|derartigen?|diesen?)\b[^.!?\n]{0,40} "
    "(?:schreiben|erstellen|verfassen|generieren|tun|machen|durchführen|ausführen|anbieten|liefern)",
    "bearbeiten", "bereitzustellen", "zu (?:geben|helfen|beantworten|unterstützen|erstellen|schreiben|erfüllen)", "nachzukommen", "zuzugreifen",
)  # fmt: skip
_DE_NOT = r"\b(?:nicht|keine?[nrms]?|außerstande)\b"
_FR_HELP = r"(?:(?:vous|te|le|la|les|y|lui|leur) |[tl]')*" + _any(
    "aider", "assister", "fournir", "répondre", "satisfaire", "accéder", "donner (?:de|d'|des|cette|ce|suite)", "générer",
    r"(?:rédiger|écrire|créer|traiter|effectuer|exécuter) (?:ce|cet|cette|de tels?|de telles|votre|du|des)\b", "faire (?:cela|ça)",
    "discuter de", "participer à (?:cela|ce)", "accomplir cette", "proposer (?:de|d')",
)  # fmt: skip
_ES_HELP = r"(?:(?:te|le|les) )?" + _any(
    "ayudar", "asistir", "proporcionar", "responder", "brindar", "ofrecer", "facilitar", "cumplir con", "acceder a", "contestar",
    "atender (?:tu|su|esa|esta)", "dar(?:te|le)? (?:esa|información|consejos|instrucciones|una respuesta)", "generar", "satisfacer",
    r"(?:escribir|crear|hacer|realizar|participar en|completar) (?:ese|esa|eso|este|esta|esto|contenido|algo así)\b",
)  # fmt: skip
_IT_HELP = r"(?:(?:ti|le|vi) )?" + _any(
    "aiutar", "assister", "fornir", "risponder", "soddisfare", "accedere a", "generare", "offrir", "esaudire", "elaborare",
    "dar(?:ti|le|e|vi) (?:consigli|informazioni|istruzioni|quest)", "farlo", "discutere di", "essere d'aiuto",
    r"(?:scrivere|creare|fare|eseguire|completare|partecipare a) (?:quest|ciò|contenut|la tua)",
)  # fmt: skip
_PT_HELP = r"(?:(?:te|lhe|o|a) )?" + _any(
    "ajud", "auxiliar", "fornecer", "responder", "oferecer", "gerar", "cumprir", "acessar", "aceder", "satisfazer", "prestar",
    "atender", "dar (?:conselhos|informações|instruções|ess)", "participar d",
    r"(?:escrever|criar|fazer|realizar|completar) (?:iss|ess|est|ist|conteúdo)",
)  # fmt: skip
OTHERS = _compiled(
    rf"(?:{_DE_SORRY})[,.;:!]?(?: aber| doch| dass)?(?: leider)? {_NEAR}\b(?:kann|darf|bin|werde|könnte|möchte)\b{_NEAR}"
    rf"{_DE_NOT}{_NEAR} {_DE_HELP}",
    rf"ich (?:kann|darf|werde|möchte|bin)\b{_NEAR}{_DE_NOT}{_NEAR} {_DE_HELP}",
    rf"(?:dabei|damit|hierbei|dazu|das|so etwas|bei (?:dieser|deiner|ihrer) \w+|diese \w+) (?:kann|darf|werde|möchte) ich\b{_NEAR}"
    rf"{_DE_NOT}{_NEAR} {_DE_HELP}",
    r"(?:(?:je suis |nous sommes )?(?:vraiment |sincèrement )?(?:désolée?s?|navrée?s?)|malheureusement|mes excuses|je regrette|"
    r"je m'excuse|excusez-moi)?[,.;:!]?(?: ?mais)? ?je ne (?:peux|puis|pourrai|saurais|suis)(?: malheureusement)?(?: pas)?"
    rf"(?: (?:en mesure|capable|autorisée?|habilitée?|programmée?) (?:de |d'|à |pour ))? ?{_FR_HELP}",
    r"(?:lo siento(?: mucho)?|lo lamento|lamento|lamentablemente|desafortunadamente|por desgracia|disculp[ae]|perdón|me temo que|"
    r"mis disculpas)?[,.;:!]?(?: ?pero)?(?: ?lamentablemente,?)? ?no (?:puedo|podré|me es posible|soy capaz de|tengo permitido|"
    rf"estoy (?:autorizad|capacitad|programad)[oa] (?:para|a)|estoy en condiciones de) {_ES_HELP}",
    r"(?:mi (?:dispiace|spiace|scuso|rincresce)(?: molto)?|spiacente|purtroppo|sfortunatamente|scus[aie]|chiedo scusa)?[,.;:!]?"
    r"(?: ?ma| ?però)?(?: ?purtroppo)? ?non (?:posso|potrò|sono (?:in grado di|autorizzat[oa] a|programmat[oa] per)|"
    rf"mi è (?:possibile|permesso|consentito)(?: di)?) {_IT_HELP}",
    r"(?:desculp(?:e|a|em)(?:-me)?|(?:eu )?sinto muito|(?:eu )?lamento|infelizmente|peço desculpas?|perdão|me desculpe)?[,.;:!]?"
    r"(?: ?mas| ?porém,?)?(?: ?infelizmente,?)? ?(?:eu )?não (?:posso|poderei|consigo|sou capaz de|me é possível|"
    rf"tenho permissão para|estou (?:autorizad|programad)[oa] (?:a|para)) {_PT_HELP}",
)

_MACHINE = (
    rf"(?:{_AI}|language model|llm|chatbot)(?:[- ](?:powered|based|driven|large|language|text|chat|virtual|digital|conversational))*"
    r"(?:[- ](?:model|assistant|system|(?:chat)?bot|program|agent|entity))?"
    r"(?: (?:developed|created|made|trained|built|designed|programmed|called|named) [\w -]{1,40})?"
)
"""A researcher or company with AI before it is no machine."""
AS_AN_AI = _compiled(
    rf"(?:as|being) an? (?:[\w-]+ )?{_MACHINE},? (?:i|my|it's|it is|we|cannot|can't|do not|don't)\b",
    rf"i(?:'m| am)(?: just| only| merely| simply| still)? an? (?:large )?(?:{_AI} )?(?:language model|llm)\b",
    rf"i(?:'m| am)(?: just| only| merely| simply| still)? an? (?:{_MACHINE}|machine|computer program),? (?:so|and|"
    r"which means|therefore),? (?:i |that i )?(?:can't|cannot|don't|do not|am not|'m not|am unable|lack|have no)",
    r"als (?:eine? )?(?:großes )?(?:ki|künstliche intelligenz|sprachmodell)"
    r"(?:[- ](?:\w*modell|\w*assistent(?:in)?|system|chatbot|basierte\w*|gestützte\w*)){0,2},? "
    r"(?:bin|habe|kann|darf|besitze|verfüge|möchte|werde|ist es mir|fehlt) ?",
    r"ich bin (?:nur |lediglich |bloß )?eine? (?:ki\b|künstliche intelligenz|(?:ki-)?sprachmodell)",
    r"en tant (?:qu'|que )(?:une? )?(?:grand )?(?:ia\b|intelligence artificielle|modèle (?:de langage|linguistique|d'ia)|"
    rf"assistante? (?:ia|virtuel)){_NEAR}, (?:je|j'|il m'|mon|ma)",
    r"je (?:ne )?suis (?:qu'|seulement |juste )?une? (?:ia\b|intelligence artificielle|modèle de langage)",
    r"como (?:una? )?(?:gran )?(?:ia\b|inteligencia artificial|modelo (?:de lenguaje|de ia|lingüístico)|asistente (?:de ia|virtual))"
    rf"{_NEAR}, (?:no|mi|yo|carezco|solo|debo|tengo)\b",
    r"soy (?:solo |sólo |solamente )?una? (?:ia\b|inteligencia artificial|modelo de lenguaje)",
    r"(?:in quanto|come|essendo) (?:un'|una? )?(?:ia\b|intelligenza artificiale|modello (?:linguistico|di linguaggio)|"
    rf"assistente (?:ia|virtuale)){_NEAR}, (?:non|la mia|il mio|posso|devo)\b",
    r"sono (?:solo |soltanto )?(?:un'|una? )(?:ia\b|intelligenza artificiale|modello (?:linguistico|di linguaggio))",
    r"como (?:uma? )?(?:ia\b|inteligência artificial|modelo (?:de linguagem|de ia)|assistente (?:de ia|virtual))"
    rf"{_NEAR}, (?:não|eu|minha|meu|devo)\b",
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
GOES_ON = _compiled(
    rf"\b(?:could|can|would|will) you\b{_NO_OTHER}[^.!?\n]*\?",
    r"\bplease (?:\w+ly )?(?:re-?send|send|provide|share|give|upload|attach|paste|enter|confirm|specify|reply|try again|describe)\b",
    r"\b(?:what|which)(?: is|'s| are)? (?:your|the)\b[^.!?\n]*\?",
    rf"\b(?:but|however,?|instead,?) (?:i|we)(?: can| could| will|'ll|'d| would)\b{_NO_OTHER}",
    r"\bbut [^.!?\n]{1,60} (?:works?|would work|would be (?:fine|good|possible)|is (?:fine|free|possible|open))\b",
    rf"\b(?:how|what) about\b{_NO_OTHER}",
    r"\b(?:können|könnten|könntest|kannst|würden|würdest) (?:sie|du)\b[^.!?\n]*\?",
    r"\b(?:pouvez|pourriez|peux|pourrais)-(?:vous|tu)\b[^.!?\n]*\?",
    r"\b(?:puedes?|podrías?|puoi|può|potresti|potrebbe|pode|podes|poderia) [^.!?\n]*\?",
)
"""Asks for what is missing, or offers something in its place."""
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
