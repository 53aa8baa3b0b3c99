"""Lines for a person."""

from __future__ import annotations

from tunelift.runtime import console


def test_text_from_elsewhere_cannot_steer_the_terminal() -> None:
    """Escape sequences of one or two characters, and marks that turn text round; line breaks and tabs stay."""
    assert console.harmless("a\x1b[31m\x9b31m\u202e\x7f\n\tb") == "a␛[31m�31m�␡\n\tb"
