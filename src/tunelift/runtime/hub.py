"""The hub's refusals in words: what a user hears when a model or a data set cannot be had."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tunelift.artifacts.store import writing
from tunelift.errors import TuneliftError, UserError
from tunelift.runtime import console


@contextmanager
def explained(
    kind: Literal["model", "data set"], where: str, *, revision: str, field: str, otherwise: str
) -> Iterator[None]:
    """Turn whatever goes wrong between here and the hub into a message with a remedy.

    Args:
        kind: What is asked for.
        where: The id as the user wrote it.
        revision: As the user wrote it; shown when the hub does not know it.
        field: The config field that holds the revision.
        otherwise: A remedy for when the hub cannot be reached.

    Raises:
        UserError: the hub refuses it, does not know it, or cannot be reached.
        MachineError: the cache's disk is full.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    console.say(f"hub: looking for {where}")
    library = logging.getLogger("huggingface_hub")
    level = library.level
    library.setLevel(logging.ERROR)  # Its retries are told line by line; what came of them is told below.
    try:
        with writing(Path(constants.HF_HUB_CACHE)):
            yield
    except TuneliftError:
        raise
    except HFValidationError as error:
        raise UserError(
            f"This is no id of the hub: {_first_line(error)}.", where=where, remedy=f"Correct it, or {otherwise}."
        ) from error
    except GatedRepoError as error:
        raise UserError(
            f"The {kind}'s owner asks you to accept its terms first.",
            where=where,
            remedy="Accept them on its page of the hub, create a read token, and set HF_TOKEN to it.",
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"The {kind} has no revision {revision!r}.", where=where, remedy=f"Correct {field}.") from error
    except RepositoryNotFoundError as error:
        raise UserError(
            f"The hub knows no such {kind}, or it is private.",
            where=where,
            remedy=f"Check the spelling; for a private {kind} set HF_TOKEN; or {otherwise}.",
        ) from error
    except Exception as error:  # The hub's client lets errors of its HTTP library, the proxy and the token through.
        offline = constants.HF_HUB_OFFLINE
        reason = "HF_HUB_OFFLINE is set" if offline else _first_line(error).removeprefix("Got: ")
        raise UserError(
            f"The hub cannot be reached ({reason}), and the {kind} is not in the local cache.",
            where=where,
            remedy=f"{'Unset HF_HUB_OFFLINE' if offline else 'Check the network and HF_TOKEN'}, or {otherwise}.",
        ) from error
    finally:
        library.setLevel(level)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
