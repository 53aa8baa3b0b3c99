"""Typed folders with a manifest, their fingerprints and their store."""
