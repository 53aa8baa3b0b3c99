"""An OpenAI-compatible endpoint that somebody else runs."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from tunelift.config.evaluation import EndpointConfig
from tunelift.engines.client import Client, Reply, Request
from tunelift.engines.dialect import Dialect
from tunelift.engines.transport import is_local, masked, proxy_for
from tunelift.errors import MachineError, UserError
from tunelift.runtime import console

CHECK_TIMEOUT_SECONDS = 20.0
SHOWN_NAMES = 5
NO_SUCH_MODEL = re.compile(
    r"HTTP 404\b|HTTP 4.*(model_not_found|(invalid|unknown|no such) model|valid model|access (to )?model"
    r"|(model|deployment)\b.*\bnot (found|exist))",
    re.IGNORECASE,
)
"""How the error of a request begins that asks for a model which is not there."""
KEY = re.compile(r"[\x21-\x7e]+")
"""What an HTTP header can carry as one word."""


def read_key(config: EndpointConfig) -> str | None:
    """The API key, if the config names a variable for one.

    Raises:
        UserError: the variable is not set or holds no key.
    """
    if config.api_key_env is None:
        return None
    key = os.environ.get(config.api_key_env, "").strip()
    if not key:
        raise UserError(
            f"The environment variable {config.api_key_env}, the API key of {config.url}, is not set.",
            remedy=f"Run `export {config.api_key_env}=…` first, or take api_key_env out if the endpoint needs none.",
        )
    refuse_unsendable(key, f"The environment variable {config.api_key_env}, the API key of {config.url},")
    return key


def refuse_unsendable(key: str, what: str) -> None:
    """Hold that a client can send the key in a header.

    Args:
        what: Where the key stands, as the error's first words.

    Raises:
        UserError: it cannot; without the key.
    """
    if not KEY.fullmatch(key):
        raise UserError(
            f"{what} holds what no key has: a line break, a space, or a character beyond ASCII.",
            remedy="Set it to the key alone: no comment, no quotation marks, no second line.",
        )


class Endpoint:
    """Asked like an engine started here; `start()` only holds that it answers and serves the model."""

    def __init__(self, config: EndpointConfig) -> None:
        self.served_name = config.model
        self._config = config
        self._dialect = Dialect()
        self._checked = False

    @property
    def url(self) -> str:
        """Base of the endpoint, ending in `/v1`."""
        return self._config.url.rstrip("/")

    @property
    def api_key(self) -> str | None:
        """As `read_key`."""
        return read_key(self._config)

    @property
    def requests_per_minute(self) -> float | None:
        """The rate to stay below, if the config sets one."""
        return self._config.requests_per_minute

    @property
    def description(self) -> Mapping[str, Any]:
        """What answers, and which parameters it did not take as they are."""
        return {
            "kind": "endpoint",
            "url": self.url,
            "model": self.served_name,
            "substituted": sorted(self._dialect.substituted),
        }

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Hold that it answers, takes the key, and serves the model.

        Raises:
            UserError: it does not, or the key is missing.
            MachineError: it is out of order.
        """
        if self._checked:
            return
        key = self.api_key
        if key and urlsplit(self.url).scheme == "http" and not is_local(self.url):
            console.warn(f"the API key of {self.url} travels unencrypted; use https if the endpoint has it")
        self._check_model(self._served(key))
        self._checked = True

    def check(self) -> None:
        """Nothing runs here that could have ended: the client's own error says what is wrong."""

    def stop(self) -> None:
        """Nothing to let go of."""

    def client(self, *, concurrency: int, timeout_seconds: float, decoding: Mapping[str, Any], seed: int) -> Client:
        """A client with the key and the rate; what it learns of the endpoint, the next one knows."""
        return Client(
            self.url,
            self.served_name,
            concurrency=concurrency,
            timeout_seconds=timeout_seconds,
            decoding=decoding,
            seed=seed,
            api_key=self.api_key,
            requests_per_minute=self.requests_per_minute,
            tool_choice="auto",
            dialect=self._dialect,
        )

    def _served(self, key: str | None) -> list[str] | None:
        """Names of the models it serves; None if it does not tell."""
        import httpx

        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            # Not `trust_env`, which would also look for passwords in ~/.netrc.
            with httpx.Client(
                headers=headers, timeout=CHECK_TIMEOUT_SECONDS, trust_env=False, proxy=proxy_for(self.url)
            ) as connection:
                answer = connection.get(f"{self.url}/models")
                if answer.status_code in {404, 405} and connection.get(f"{self.url}/v1/models").is_success:
                    raise UserError(
                        f"There is no endpoint at {self.url}, but there is one at {self.url}/v1.",
                        remedy=f"Set url to {self.url}/v1.",
                    )
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise UserError(
                f"Nothing answers at {self.url} ({type(error).__name__}: {masked(str(error), key)}).",
                remedy="Start the endpoint, or correct its url, which ends in /v1.",
            ) from error
        if answer.status_code in {401, 403}:
            raise self._locked(answer.status_code)
        if answer.status_code in {404, 405}:
            console.warn(f"{self.url} does not list its models; {self.served_name} is asked for as it is")
            return None
        if not answer.is_success:
            raise MachineError(
                f"{self.url}/models answers HTTP {answer.status_code}.",
                remedy="Try again once the endpoint is in order.",
                where=self.url,
            )
        try:
            content = answer.json()
            # Together's list comes bare.
            return [str(model["id"]) for model in (content if isinstance(content, list) else content["data"])]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise UserError(
                f"What answers at {self.url}/models is no OpenAI-compatible endpoint.",
                remedy="Correct the url; it ends in /v1.",
            ) from error

    def _locked(self, status: int) -> UserError:
        variable = self._config.api_key_env
        if variable:
            return UserError(
                f"{self.url} does not accept the API key in {variable} (HTTP {status}).",
                remedy=f"Put a valid key into the environment variable {variable}.",
            )
        return UserError(
            f"{self.url} wants an API key (HTTP {status}).",
            remedy="Put the key into an environment variable, and its name into api_key_env.",
        )

    def _check_model(self, served: list[str] | None) -> None:
        # Some list their models below a folder's name, and serve them without it.
        if served is None or any(self.served_name in {name, name.rpartition("/")[2]} for name in served):
            return
        # Deployments, aliases, wildcards and further pages are not in a list, so that only a request tells.
        replies: list[Reply] = []
        client = self.client(concurrency=1, timeout_seconds=CHECK_TIMEOUT_SECONDS, decoding={}, seed=0)
        client.generate([Request("is it there", [{"role": "user", "content": "Hi"}], 1)], replies.append)
        if not NO_SUCH_MODEL.match(replies[0].error or ""):
            console.warn(f"{self.url} does not list {self.served_name}, which is asked for as it is")
            return
        near = difflib.get_close_matches(self.served_name, served, SHOWN_NAMES, 0.4) or sorted(served)[:SHOWN_NAMES]
        raise UserError(
            f"{self.url} serves no model {self.served_name} ({replies[0].error}).",
            remedy=f"Set model to one that it serves, such as {', '.join(near)}." if near else "It serves none at all.",
        )
