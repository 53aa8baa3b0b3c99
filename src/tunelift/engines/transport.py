"""Posting JSON to an endpoint: bounded, paced, patient with passing trouble, and silent about the key.

On aiohttp, since its overhead per request is a fraction of httpx's; `scripts/bench_client.py` measures it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import math
import random
import re
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from tunelift.engines.answers import UnusableError, refuse_errors, was_filtered
from tunelift.engines.withheld import says_filtered
from tunelift.errors import MachineError, UserError

if TYPE_CHECKING:
    import aiohttp

TRIES = 3
"""Of a request that fails."""
BUSY_TRIES = 8
"""Of a request that is asked to come back later, which says nothing about the request."""
MAX_WAIT_SECONDS = 60.0
"""Longest wait before a try, whatever the endpoint asks for."""
MAX_ERROR_TEXT = 500

REFUSED = re.compile(r"HTTP 4(00|13|22)\b")
"""How the error of a request begins that is at fault itself; any other says nothing about the question asked."""

_BUSY = {429, 529}
_PASSING = {408, 409, 425}
_SPENT = "insufficient_quota"
"""In a 429 that no patience helps: the account's money is spent."""

_USER_INFO = re.compile(r"(?<=://)[^\s/\"]+(?=@)")

T = TypeVar("T")


class FailedError(Exception):
    """A request that got no usable answer; the text says why, without the key."""


class RefusedError(FailedError):
    """The endpoint refuses this very request; asking again changes nothing.

    Args:
        status: The HTTP status.
        text: What the endpoint said, whole.
        shown: The same, short enough to be kept.
        filtered: A filter refuses it, with whatever status.
    """

    def __init__(self, status: int, text: str, shown: str, *, filtered: bool = False) -> None:
        super().__init__(shown)
        self.status, self.text, self.filtered = status, text, filtered


class Pace:
    """When the next try may be sent. Held (`async with`) while it is under way.

    As TCP does it, too much traffic halves what may be in flight, and each success brings a little of it back.
    """

    def __init__(self, concurrency: int, requests_per_minute: float | None) -> None:
        self._most = self._allowed = float(concurrency)
        self._in_flight = 0
        self._interval = 60 / requests_per_minute if requests_per_minute else 0.0
        self._next_slot = self._not_before = 0.0
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> None:
        # Only after trouble is less allowed than there are workers, so that looking now and then is cheap enough.
        while self._in_flight >= int(self._allowed):
            await asyncio.sleep(0.02)
        self._in_flight += 1
        try:
            # One at a time, so that a pause is followed by an even stream, not by all that came due meanwhile.
            async with self._turn:
                while (wait := max(self._next_slot, self._not_before) - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                self._next_slot = time.monotonic() + self._interval
        except BaseException:
            self._in_flight -= 1
            raise

    async def __aexit__(self, *_: object) -> None:
        self._in_flight -= 1

    def slow_down(self, seconds: float) -> None:
        """Let nobody send for a while, and fewer at a time after that."""
        now = time.monotonic()
        if now >= self._not_before:  # Refusals of one burst count once.
            self._allowed = max(1.0, self._allowed / 2)
        self._not_before = max(self._not_before, now + seconds)

    def speed_up(self) -> None:
        """A request has succeeded."""
        if self._allowed < self._most:
            self._allowed = min(self._most, self._allowed + 1 / self._allowed)


class Transport:
    """One connection pool to one endpoint; used as `async with`.

    Args:
        url: Base of the endpoint, ending in `/v1`.
        timeout_seconds: For one try of one request.
        back_off_seconds: Range of the wait before the second try; doubled before each further one.
    """

    def __init__(
        self,
        url: str,
        *,
        concurrency: int,
        timeout_seconds: float,
        back_off_seconds: tuple[float, float],
        api_key: str | None,
        requests_per_minute: float | None,
    ) -> None:
        self._url, self._concurrency, self._timeout, self._key = url, concurrency, timeout_seconds, api_key
        self._back_off_seconds = back_off_seconds
        self._pace = Pace(concurrency, requests_per_minute)
        self._proxy = proxy_for(url)
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Transport:
        import aiohttp

        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=self._timeout),
            connector=aiohttp.TCPConnector(limit=self._concurrency),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def post(self, path: str, body: dict[str, Any], read: Callable[[Any, float], T]) -> T:
        """Post `body` to the endpoint's base plus `path`; return what `read(answer, seconds)` makes of the answer.

        An answer that `read` cannot read (ValueError, KeyError and the like) is a failure like any other. An error that
        comes with HTTP 200 is taken for the HTTP status that it names, and for passing trouble if it names none.

        Raises:
            RefusedError: the endpoint refuses it, with a 4xx that does not pass, or a filter does.
            FailedError: it failed three times, or the endpoint stayed too busy.
            MachineError: nothing listens there.
        """
        import aiohttp

        raw = json.dumps(body).encode()
        failures = refusals = 0
        while True:
            wait, absent = None, None
            try:
                async with self._pace:
                    started = time.monotonic()
                    async with self._session.post(
                        self._url + path, data=raw, proxy=self._proxy, allow_redirects=False
                    ) as response:
                        content = await response.read()
                if 200 <= response.status < 300:
                    done = _read(content, time.monotonic() - started, read)
                    self._pace.speed_up()
                    return done
                problem, wait = self._trouble(response, content.decode("utf-8", "replace"), refusals)
            except UnusableError as error:
                problem, wait = self._trouble(response, error.words, refusals, error.status, error.filtered)
            except aiohttp.ClientConnectorError as error:
                problem, absent = self._shown(f"no connection: {error}"), error
            except TimeoutError:
                problem = f"TimeoutError: no answer within {self._timeout:g} s"
            except (aiohttp.ClientError, ValueError, RecursionError) as error:
                problem = self._shown(f"{type(error).__name__}: {error}".rstrip(": "))
            if wait is not None:
                refusals += 1
                if refusals == BUSY_TRIES:
                    raise FailedError(problem)
                self._pace.slow_down(wait)
            else:
                failures += 1
                if failures == TRIES:
                    if absent:
                        raise self._gone(problem) from absent
                    raise FailedError(problem)
                await asyncio.sleep(self._back_off(failures - 1))

    def _trouble(
        self,
        response: aiohttp.ClientResponse,
        text: str,
        refusals: int,
        inside: int | None = None,
        filtered: bool | None = None,
    ) -> tuple[str, float | None]:
        """What the endpoint's complaint is, and how long everybody had better wait, if it is too busy.

        Args:
            inside: The status that an error in the body of an answer names.
            filtered: Whether a filter refused the request; None where `text` is a body that has to tell.
        """
        status = inside or response.status
        problem = f"HTTP {status}{' (in the body)' if inside else ''}: {self._shown(text)}"
        asked = retry_after(response.headers.get("Retry-After"))
        filtered = was_filtered(text) if filtered is None else filtered
        if filtered:
            raise RefusedError(status, text, problem, filtered=True)
        if _SPENT not in text and (status in _BUSY or (status == 503 and asked is not None)):
            return problem, self._back_off(refusals) if asked is None else asked
        if status < 400 or status >= 500 or status in _PASSING:
            return problem, None
        raise RefusedError(status, text, problem, filtered=says_filtered(text))

    def _back_off(self, number: int) -> float:
        """Seconds to wait after `number` + 1 tries; drawn at random, so that those who failed together part."""
        return min(MAX_WAIT_SECONDS, random.uniform(*self._back_off_seconds) * 2.0**number)

    def _gone(self, problem: str) -> MachineError:
        if is_local(self._url):
            return MachineError(
                f"Nothing answers at {self._url}: the engine has ended.",
                where=self._url,
                remedy="Look into the engine's log; the same command goes on with the items that are missing.",
            )
        return MachineError(
            f"Nothing answers at {self._url} any more ({problem}).",
            where=self._url,
            remedy="Once it can be reached, the same command goes on with the items that are missing.",
        )

    def _shown(self, text: str) -> str:
        flat = masked(" ".join(text.split()), self._key)
        return flat if len(flat) <= MAX_ERROR_TEXT else flat[:MAX_ERROR_TEXT] + "…"


def _read(content: bytes, seconds: float, read: Callable[[Any, float], T]) -> T:
    try:
        return read(refuse_errors(json.loads(content)), seconds)
    except UnusableError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        shown = content.decode("utf-8", "replace").strip() or "it is empty"
        raise UnusableError(f"the answer cannot be read: {shown}") from error


def masked(text: str, key: str | None) -> str:
    """The text without the API key, and without user name and password in any URL, such as the proxy's."""
    return _USER_INFO.sub("***", text.replace(key, "***") if key else text)


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for (a number or a date, RFC 9110 10.2.3), at most MAX_WAIT_SECONDS."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = float(parsedate_to_datetime(value).timestamp() - time.time())
        except ValueError:
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), MAX_WAIT_SECONDS)


def is_local(url: str) -> bool:
    """Whether the address is this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def proxy_for(url: str) -> str | None:
    """The environment's proxy for `url`. It is for the world outside, not for this machine.

    Raises:
        UserError: a kind of proxy that cannot be used.
    """
    parts = urlsplit(url)
    if is_local(url) or proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    if proxy and urlsplit(proxy).scheme not in {"http", "https"}:
        raise UserError(
            f"The environment's proxy for {parts.hostname} is of the kind {urlsplit(proxy).scheme}.",
            remedy=f"Set {parts.scheme}_proxy to an http:// proxy, or name {parts.hostname} in no_proxy.",
        )
    return proxy or None
