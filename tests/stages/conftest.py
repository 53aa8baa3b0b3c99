"""A whole run's report, and a browser to look at it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stages.browsing import Open, quiet_pages, running_chromium


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from tests.stages.report_fixture import make_whole_run

    return make_whole_run(tmp_path_factory.mktemp("report"), items=60)


@pytest.fixture(scope="module")
def built(whole: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    from tests.stages.report_fixture import build

    out, comparison = build(tmp_path_factory.mktemp("built"), **whole)
    return out / "report.html", comparison


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with running_chromium() as browser:
        yield browser


@pytest.fixture
def opened(chromium: Any) -> Iterator[Open]:
    with quiet_pages(chromium) as open_page:
        yield open_page


@pytest.fixture
def page(opened: Open, built: Any) -> Any:
    return opened(built[0])
