"""How hypothesis runs here: the time of one example says more about the machine's load than about the code."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
