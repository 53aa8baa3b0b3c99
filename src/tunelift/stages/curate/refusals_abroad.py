"""How one refuses in German, French, Spanish, Italian and Portuguese, and what such patterns are made of.

A verb of helping or answering ends its clause, or has for its object what was asked, or what an assistant gives: the
telephone is answered by anybody, and a brother is helped.
"""

from __future__ import annotations

import re


def any_of(*alternatives: str) -> str:
    """A pattern that matches where one of these does."""
    return "(?:" + "|".join(alternatives) + ")"


def compiled(*alternatives: str) -> re.Pattern[str]:
    """For text in lower case, with ' for any apostrophe; a space stands for any white space."""
    return re.compile(any_of(*alternatives).replace(" ", r"\s"))


NEAR = r"[^.!?\n]{0,70}?"
"""Some words of the same sentence."""

_END = r"(?= ?[.,;:!?\n]|$)"
"""Of a clause."""
_DE_SORRY = r"(?:es tut mir|tut mir)(?: sehr| wirklich)? leid|leider|entschuldigung|entschuldigen sie|verzeihung|bedauerlicherweise"
_DE_NOT = r"\b(?:nicht|keine?[nrms]?|außerstande)\b"
_DE_HELP = any_of(
    "(?:weiter|zu)?helfen", "behilflich", "(?:zu )?unterstützen", "beantworten", "antworten", "nachkommen", "erfüllen",
    "entsprechen", "bearbeiten", "weiterzuhelfen", "nachzukommen",
)  # fmt: skip
_DE_ASKED = any_of(
    "dir", "euch", "ihnen", "sie", "dich", "dabei", "damit", "hier(?:bei|mit)?", "dazu", "darauf", "so etwas",
    "(?:das|dies)(?= (?:leider |aber )*nicht)", "solche[nmrs]?", "derartige[nmrs]?",
    r"(?:diese[nmrs]?|ihre[nmrs]?|ihr|deine[nmrs]?|dein|eure[nr]?|die|der|keine) (?:\w+ ){0,2}?"
    r"\w*(?:frage|bitte|anliegen|wunsch|wünsche|aufgabe|thema|themen|auftrag|aufträge|forderung)\w*",
)  # fmt: skip
_DE_GIVE = any_of(
    "bereitstellen", "bereitzustellen", "zuzugreifen",
    r"(?:antwort|auskunft|auskünfte|rat|ratschläge|informationen|anleitung|anweisungen|tipps|details|hilfe)\w* "
    r"(?:\w+ )?(?:zu )?(?:geben|erteilen|liefern|anbieten|leisten|erstellen|schreiben)",
    r"(?:so etwas|so einen?|das|dies|solchen?|derartigen?|diesen?)\b[^.!?\n]{0,40} "
    "(?:zu )?(?:schreiben|erstellen|verfassen|generieren|tun|machen|durchführen|ausführen|anbieten|liefern|geben)",
)  # fmt: skip
_DE_DOES = (
    rf"\b(?:{NEAR}{_DE_NOT}{NEAR} {_DE_GIVE}|(?=[^.!?\n]{{0,100}} {_DE_ASKED}\b){NEAR}{_DE_NOT}{NEAR} {_DE_HELP}"
    rf"|(?: ich)?(?: leider| hier)* nicht {_DE_HELP}{_END})"
)
_FR_ASKED = (
    r"(?:cela|ceci|ça|(?:cette|cet|ces?|votre|vos|ta|ton|tes|la|de tel(?:le)?s?) (?:[\w'-]+ ){0,2}?"
    r"(?:question|demande|requête|sujet|type|genre|sorte|contenu|tâche|problème|instruction|chose)s?)\b"
)
_FR_GIVEN = (
    rf"(?:{_FR_ASKED}|(?:(?!mon |ma |mes |notre |nos )[\w'-]+ ){{0,3}}?(?:[dl]')?(?:information|conseil|instruction|réponse|avis|"
    r"contenu|détail|assistance|aide|lien|code|diagnostic|recommandation|opinion|explication|donnée|image|texte|prédiction|prévision)s?\b)"
)
_FR_HELP = r"(?:(?:vous|te|le|la|les|y|lui|leur) |[tl]')*" + any_of(
    rf"(?:aider|assister){_END}", r"(?<=vous )(?:aider|assister) (?:à|avec|dans|pour|sur|en)\b", r"(?<=t')aider (?:à|avec|dans|pour|sur|en)\b",
    rf"aider (?:à|avec|dans|pour|sur) (?:{_FR_ASKED}|\w+(?:er|ir|re)\b)",
    rf"répondre(?:{_END}| (?:à |sur )?{_FR_ASKED})", rf"(?:satisfaire|accéder|donner suite)(?: à)? {_FR_ASKED}",
    r"accéder (?:à (?:l'|votre |vos |ton |ta |tes |des )?(?:internet|e-?mail|compte|fichier|information|donnée|site|lien)|aux (?:information|donnée))",
    rf"(?:fournir|donner|proposer|générer|partager) {_FR_GIVEN}",
    r"(?:rédiger|écrire|créer|traiter|effectuer|exécuter) (?:ce(?! soir| matin)|cet|cette|de tels?|de telles|votre|du|des|de contenus?)\b",
    "faire (?:cela|ça)", rf"discuter de {_FR_ASKED}", "participer à (?:cela|ce)", "accomplir cette",
)  # fmt: skip
_ES_ASKED = (
    r"(?:eso|esto|ello|(?:est[aeo]s?|es[aeo]s?|tus?|sus?|tal(?:es)?|la|el|las|los) (?:[\w-]+ ){0,2}?"
    r"(?:pregunta|solicitud|petición|consulta|tema|tipo|clase|contenido|tarea|problema|instrucción|orden)(?:e?s)?)\b"
)
_ES_GIVEN = (
    rf"(?:{_ES_ASKED}|(?:(?!mis? |nuestr[ao]s? )[\w-]+ ){{0,3}}?(?:informaci(?:ón|ones)|consejos?|instrucci(?:ón|ones)|respuestas?|contenidos?|"
    r"detalles|asistencia|ayuda|enlaces|códigos?|diagnósticos?|recomendaci(?:ón|ones)|opini(?:ón|ones)|explicaci(?:ón|ones)|datos|imágenes|"
    r"asesoramiento|orientación|predicci(?:ón|ones))\b)"
)
_ES_TO = r"(?:te|le|les|lo|la|los|las|os|se(?:lo|la))"
_ES_HELP = rf"(?:{_ES_TO} )?" + any_of(
    rf"ayudar{_ES_TO}?{_END}", rf"(?:(?:ayudar|asistir){_ES_TO}|(?<=te )ayudar|(?<=le )ayudar) (?:con|en|a)\b", rf"asistir{_ES_TO}{_END}",
    rf"(?:ayudar|asistir) (?:con|en) {_ES_ASKED}", r"ayudar a \w+[aei]r(?:l[aeo]s?)?\b", rf"(?:responder|contestar){_ES_TO}?(?:{_END}| (?:a )?(?:preguntas\b|{_ES_ASKED}))",
    rf"(?:cumplir con|acceder a|atender|satisfacer) {_ES_ASKED}",
    r"acceder a (?:internet|tus?|sus?|informaci(?:ón|ones)|datos|enlaces|sitios|archivos|la (?:red|web))\b",
    rf"(?:proporcionar|brindar|ofrecer|facilitar|dar|generar|compartir){_ES_TO}? {_ES_GIVEN}",
    r"(?:escribir|crear|hacer|realizar|participar en|completar) (?:ese|esa|eso|este|esta(?! (?:noche|tarde|semana))|esto|contenido|algo así)\b",
)  # fmt: skip
_IT_ASKED = (
    r"(?:(?:quest[aeio]|ciò)(?=[ .,;:!?\n]|$)(?: tipo)?(?! (?:sera|mattina|settimana|mese|anno|notte))|"
    r"(?:(?:l[ae]|il?|quest[aeio]|tal[ei]) )?(?:(?:tu[aeo]|tuoi|su[aeo]|suoi|vostr[aeio]) )?"
    r"(?:domand[ae]|richiest[ae]|quesit[oi]|argoment[oi]|tipo|contenut[oi]|compit[oi]|problem[ai]|istruzion[ei])\b)"
)
_IT_GIVEN = (
    rf"(?:{_IT_ASKED}|(?:(?!mi[aeo] |miei |nostr[aeio] )[\w-]+ ){{0,3}}?(?:informazion[ei]|consigli(?:o)?|istruzioni|rispost[ae]|"
    r"contenut[oi]|dettagli|assistenza|aiuto|link|codice|diagnosi|raccomandazioni|opinion[ei]|spiegazion[ei]|dati|immagini|parer[ei]|previsioni)\b)"
)
_IT_TO = r"(?:e|ti|l[aeio]|vi)?"
_IT_HELP = r"(?:(?:ti|le|vi) )?" + any_of(
    rf"aiutar{_IT_TO}{_END}", r"(?:(?:aiutar|assister)(?:ti|la|l[aeio]|vi)|(?<=ti )aiutare|(?<=vi )aiutare) (?:con|in|a|per|su|nel|nella)\b",
    rf"assister(?:ti|la|vi){_END}", rf"aiutare (?:con|in|su) {_IT_ASKED}", r"aiutare a \w+[aei]r(?:e|l[aeio])\b",
    rf"risponder{_IT_TO}(?:{_END}| a(?:d|l|ll[aeo]|gli|i)? {_IT_ASKED})", rf"(?:soddisfare|esaudire|elaborare|discutere di) {_IT_ASKED}",
    r"accedere (?:a|all[ae'o]|ai|agli|al) ?(?:tu[aeo]\b|tuoi|su[aeo]\b|suoi|internet|informazioni|dati|link|siti|file|web)",
    rf"(?:fornir|generar|offrir|dar){_IT_TO} {_IT_GIVEN}", "farlo", "essere d'aiuto",
    r"(?:scrivere|creare|fare|eseguire|completare|partecipare a) (?:quest(?!a (?:sera|settimana))|ciò|contenut|la tua)",
)  # fmt: skip
_PT_ASKED = (
    r"(?:isso|isto|nisso|disso|(?:[aàno]|[nd]?ess[ae]s?|[nd]?est[ae]s?|[aà]s|os|ao|tal|tais|d[ao]) (?:(?:su?a|seu|tu?a|teu) )?(?:[\w-]+ ){0,1}?"
    r"(?:pergunta|pedido|solicitação|solicitações|questão|questões|tema|assunto|tipo|conteúdo|tarefa|problema|instrução|instruções)s?|"
    r"(?:su?a|seu|tu?a|teu) (?:pergunta|pedido|solicitação|questão))\b"
)
_PT_GIVEN = (
    rf"(?:{_PT_ASKED}|(?:(?!meus? |minhas? |noss[ao]s? )[\w-]+ ){{0,3}}?(?:informaç(?:ão|ões)|conselhos?|instruç(?:ão|ões)|respostas?|conteúdos?|"
    r"detalhes|assistência|ajuda|links|códigos?|diagnósticos?|recomendaç(?:ão|ões)|opini(?:ão|ões)|explicaç(?:ão|ões)|dados|imagens|"
    r"aconselhamento|orientação|previs(?:ão|ões))\b)"
)
_PT_HELP = r"(?:(?:te|lhe|o|a) )?" + any_of(
    rf"(?:ajud|auxili)(?:ar|ar-(?:te|lhe)|á-l[ao]s?)(?: você)?{_END}",
    r"(?:(?:ajud|auxili)(?:ar-(?:te|lhe)|á-l[ao]s?|ar você)|(?<=te )ajudar|(?<=lhe )ajudar) (?:com|em|a|n[ao]|nisso)\b",
    rf"(?:ajudar|auxiliar) (?:(?:com|em) )?{_PT_ASKED}", r"ajudar a \w+[aei]r\b", rf"responder(?:-lhe)?(?:{_END}| (?:a )?{_PT_ASKED})",
    rf"(?:cumprir|satisfazer|atender|aceder)(?: a| com)? {_PT_ASKED}",
    r"(?:acessar|aceder) (?:a |à |ao? |o )?(?:seus?|suas?|teus?|tuas?|internet|informações|dados|links|sites|arquivos)\b",
    rf"(?:fornecer|oferecer|gerar|prestar|dar)(?:-lhe)? {_PT_GIVEN}", r"participar d(?:isso|iss|ess|est)",
    r"(?:escrever|criar|fazer|realizar|completar) (?:iss|ess|est(?!a (?:noite|semana))|ist|conteúdo)",
)  # fmt: skip
OTHERS = compiled(
    rf"(?:{_DE_SORRY})[,.;:!]?(?: aber| doch| dass)?(?: leider)? {NEAR}\b(?:kann|darf|bin|werde|könnte|möchte){_DE_DOES}",
    rf"ich (?:kann|darf|werde|möchte|bin){_DE_DOES}",
    rf"(?:dabei|damit|hierbei|dazu|das|so etwas|bei (?:dieser|deiner|ihrer) \w+|diese \w+) (?:kann|darf|werde|möchte) ich\b{NEAR}"
    rf"{_DE_NOT}{NEAR} (?:{_DE_HELP}|{_DE_GIVE})",
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
