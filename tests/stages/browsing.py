"""A page in headless Chromium that must keep quiet: no error, no dialog, no request beyond the file itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path(shutil.which("chromium") or "/usr/bin/chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
BEYOND_THE_EDGE = """width => [...document.querySelectorAll("main *")]
  .filter(node => !node.closest(".scroll, thead, select, .unseen") && node.getBoundingClientRect().right > width + 1)
  .map(node => node.outerHTML.slice(0, 80))"""

# Contrast of each text with the nearest opaque background below it: WCAG 2.2, 1.4.3. Colours of any syntax become
# red, green and blue by drawing them.
LOW_CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const seen = new Map();
  const rgba = (colour) => {
    if (!seen.has(colour)) {
      canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      seen.set(colour, [r, g, b, a / 255]);
    }
    return seen.get(colour);
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((value, at) => a * value + (1 - a) * below[at]);
  const behind = (node) => {
    if (!node) return [255, 255, 255];
    const colour = rgba(getComputedStyle(node).backgroundColor);
    return colour[3] === 1 ? colour.slice(0, 3) : over(colour, behind(node.parentElement));
  };
  const light = (colour) => {
    const linear = (value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = colour.map((value) => linear(value / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const low = [];
  for (const node of document.querySelectorAll("body *")) {
    if (!node.getClientRects().length || node.matches(":disabled, option, script, noscript")) continue;
    if (![...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim())) continue;
    const below = behind(node);
    const [one, other] = [light(over(rgba(getComputedStyle(node).color), below)), light(below)].sort((x, y) => y - x);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < 4.5) low.push(`${ratio.toFixed(2)} ${node.className} ${node.textContent.trim().slice(0, 40)}`);
  }
  return [...new Set(low)];
}"""

Open = Callable[..., Any]
"""path, width=1280, scheme="light" -> a Playwright page."""


@contextmanager
def running_chromium() -> Iterator[Any]:
    """The browser; the test is skipped, with the reason, where there is none."""
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def quiet_pages(browser: Any) -> Iterator[Open]:
    """A function that opens a page; at the end none may have complained, asked the network, or popped up."""
    trouble: list[str] = []
    pages = []

    def open_page(path: Path, width: int = 1280, scheme: str = "light") -> Any:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda message: trouble.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (trouble.append("dialog"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: None if request.url.startswith(("file:", "data:")) else trouble.append(request.url),
        )
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert trouble == []


def fits(page: Any, width: int) -> list[str]:
    """What sticks out at the right, which is nothing on a page that fits."""
    wide = page.evaluate("document.documentElement.scrollWidth")
    return ([f"the page is {wide} wide"] if wide > width else []) + list(page.evaluate(BEYOND_THE_EDGE, width))


def search(page: Any, words: str, first: str) -> None:
    page.fill("#query", words)
    pytest.importorskip("playwright.sync_api").expect(page.locator(".item-id").first).to_have_text(first)
