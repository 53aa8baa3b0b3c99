"""Pages that need no network: rendered from a stage's templates with one look, and safe whatever text they show."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

SHARED = Path(__file__).parent
"""base.css, page.js and head.html.j2: what every page has."""
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]+"
)
"""The same characters as in report.js: they show nothing, move the text about, or are no characters at all."""


def write_page(
    page: str,
    context: Mapping[str, Any],
    out: Path,
    *,
    templates: Path,
    styles: Sequence[str] = (),
    scripts: Sequence[str] = (),
    words: Mapping[str, Callable[..., Any]] | None = None,
) -> None:
    """Render `templates/<page>.j2` as `out/<page>`, with style and script inside.

    Text is escaped, except in Markdown templates, and characters that cannot be seen are named by their code.

    Args:
        context: What the template shows; it also gets `style`, `script` and `script_hash`.
        templates: The stage's folder of templates, styles and scripts.
        styles: Style sheets from it, after the shared one.
        scripts: Scripts from it, after the shared one.
        words: Filters, by name.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([templates, SHARED]),
        autoescape=lambda template: not (template or "").endswith(".md.j2"),
        undefined=jinja2.StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= words or {}
    script = _joined(SHARED / "page.js", *(templates / name for name in scripts))
    ours = {
        # Ours, not a model's: the policy lets this one script run, whatever else gets into the page.
        "style": Markup(_joined(SHARED / "base.css", *(templates / name for name in styles))),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    text = environment.get_template(f"{page}.j2").render({**context, **ours})
    # A lone surrogate, which a model can write, has no UTF-8.
    (out / page).write_bytes(text.encode("utf-8", "backslashreplace"))


def _joined(*paths: Path) -> str:
    return "".join(path.read_text(encoding="utf-8") for path in paths)


def visible(value: Any) -> Any:
    """Text from elsewhere with what cannot be seen, or would move other text about, named by its code.

    Raises:
        TypeError: a macro, which took the name of what the page was to show.
    """
    from jinja2.runtime import Macro

    if isinstance(value, Macro):
        raise TypeError(f"A page would show {value!r}.")
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _HIDDEN.sub(lambda match: " ".join(f"U+{ord(character):04X}" for character in match[0]), value)
