from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.endpoint import Answer, Stub, answer


@pytest.fixture
def stub() -> Iterator[Callable[..., Stub]]:
    """Starts stub endpoints, which end with the test."""
    made: list[Stub] = []

    def make(respond: Answer = lambda body, number: (200, answer("x")), **options: Any) -> Stub:
        made.append(Stub(respond, **options))
        return made[-1]

    yield make
    for server in made:
        server.close()
