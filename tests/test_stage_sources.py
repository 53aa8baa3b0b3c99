"""A changed stage makes new artifacts, or somebody said that it need not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_a_stage_whose_source_changed_was_stamped_again() -> None:
    result = subprocess.run(
        [sys.executable, str(ROOT / "scripts/stamp_stages.py"), "--check"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout
