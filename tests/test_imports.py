from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

HEAVY = ("torch", "transformers", "datasets", "trl", "peft", "vllm", "wandb", "scipy", "numpy", "pandas")


def test_arrows_between_modules_go_one_way(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])
    code = lint_imports(config_filename="pyproject.toml", no_cache=True)
    assert code == 0, capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["plan", "no-such-config.yaml"]], ids=" ".join)
def test_help_and_a_wrong_config_are_answered_without_heavy_imports(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from tunelift.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    modules = result.stderr.splitlines()[-1].split()
    assert "tunelift.cli" in modules
    assert not {name for name in HEAVY if name in modules}
