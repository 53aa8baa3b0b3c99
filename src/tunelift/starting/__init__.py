"""`tunelift init`: from a raw file to a config that runs, with what was seen on the way."""

from tunelift.starting.start import start

__all__ = ["start"]
