"""Pieces of `scripts/make_tool_calls.py`: phrasings with slots, what fills the slots, noise, planted flaws."""
