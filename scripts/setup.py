"""Make the environment: .venv with the locked packages for this machine, and tunelift itself.

    python3 scripts/setup.py            (or: make setup)

Runs on a bare Python, with the standard library only. It says which lock it takes and why, tells at once all that the
machine lacks for it, installs nothing that is not pinned by hash, and returns at once when all is in place already.

Environment:
    DEVICE=cpu|cuda   take this device's packages, whatever the machine has
    PYTHON=/path      use this interpreter
    ANYWAY=1          go on although something seems to be missing
"""

import sys

# Every Python 3 can read this file; what it imports needs 3.7.
if sys.version_info < (3, 7):  # noqa: UP036
    sys.exit(
        "error: setup needs Python 3.11, 3.12 or 3.13, and python3 is {}.{}.\n"
        "  What to do: install one (Debian 12: apt-get install python3.11 python3.11-venv;\n"
        "  anywhere: uv python install 3.11) and name it: make setup PYTHON3=python3.11".format(*sys.version_info[:2])
    )

from environment.make import main

if __name__ == "__main__":
    sys.exit(main())
