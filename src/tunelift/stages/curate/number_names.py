"""What a long number is called: an order, a parcel or a device has numbers that look like those of payment cards.

One number in ten passes Luhn's check by chance, and most schemes of order ids use it.
"""

from __future__ import annotations

import re

_CARDS = r"""
cards? credit debit visa mastercard maestro amex american\sexpress diners discover jcb unionpay cc ccn pan cvv cvc
creditcard kredit\w* karten?\w* carte cb bancaire tarjetas? cr[ée]dito d[ée]bito carta cart[ãa]o \w*kaart\w*
"""
_THINGS = r"""
orders? purchases? tracking track invoices? receipts? tickets? cases? bookings? reservations? confirmations? references?
refs? shipments? parcels? packages? deliver(?:y|ies) consignments? transactions? txn skus? serials? ids? uuid imei iccid
eid isbn ean gtin upc asin barcode parts? devices? models? requests? sessions? contracts? polic(?:y|ies) quotes? claims?
records? documents? rma waybill awb (?:customer|client|user|member|item|product)[\W_]?(?:numbers?|no|nr|num)
bestell\w* auftr[aä]g\w* rechnung\w* beleg\w* sendung\w* liefer\w* vorg[aä]ng\w* kundenn\w* vertrag\w* buchung\w*
artikel\w* paket\w* ger[aä]te\w* serien\w* referenz\w* aktenzeichen kennung
commandes? factures? suivi colis dossiers? r[ée]f[ée]rences? r[ée]f livraison r[ée]servation contrat s[ée]rie article
pedidos? facturas? seguimiento env[ií]os? referencias? expediente reservas? contrato serie art[ií]culo encomendas?
fatura rastreio rastreamento ordin[ei] fattur[ae] spedizion[ei] pratica bestelling(?:en)? factuur zending
zam[oó]wieni[ea]
"""
_BETWEEN = r"""
numbers? num nos? nrs? nummern? num[ée]ros? n[uú]meros? numer[io] codes? ids? keys? n[°º] is was are ist war lautet est
es [eè] de du di do da del von of with the mit der die das my meine mi ma und and or oder et y o ou e \d{12,19}
"""
_CARD, _ID, _PLAIN = ("|".join(words.split()) for words in (_CARDS, _THINGS, _BETWEEN))
CARD = re.compile(rf"(?<![^\W_])(?:{_CARD})(?![^\W_])", re.IGNORECASE)
"""Words for payment cards, in text and in keys such as `card_number`."""
ID = re.compile(rf"(?<![^\W_])(?:{_ID})(?![^\W_])", re.IGNORECASE)
"""Words for what else has a number."""
BEFORE = re.compile(
    rf"(?<![^\W_])(?:{_ID})(?:[\s:=#.,;\"'*_`(\[<>/\\-]+(?:{_PLAIN}|{_ID})(?![^\W_]))*[\s:=#.,\"'*_`(\[\\-]*$",
    re.IGNORECASE,
)
"""One of them directly before a number, or before other long numbers in a list."""
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
AROUND = 48
"""Characters before a number that tell what it is called."""


def is_named_id(text: str, start: int, key: str = "") -> bool:
    """Whether a number is called an id, order or the like, and not a card, by its key or by the words before it.

    Args:
        text: Where the number stands.
        start: Where it begins there.
        key: Of a JSON object, where the text is a value of it.
    """
    if key and not text[:start].strip():
        named = CAMEL.sub(" ", key)
        return bool(ID.search(named)) and not CARD.search(named)
    before = CAMEL.sub(" ", text[max(0, start - AROUND) : start])
    return BEFORE.search(before) is not None and not CARD.search(_same_thing(before))


def is_named_card(text: str, start: int, key: str = "") -> bool:
    """Whether it is called a payment card there; as `is_named_id`."""
    if key and not text[:start].strip():
        return CARD.search(CAMEL.sub(" ", key)) is not None
    return CARD.search(_same_thing(CAMEL.sub(" ", text[max(0, start - AROUND) : start]))) is not None


def _same_thing(before: str) -> str:
    """What is said of the number: not what stands in other fields of JSON, or other sentences."""
    return re.split(r"[{}\n]|[.!?] |\", |,\"|\",", before)[-1]
