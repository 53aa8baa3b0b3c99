"""What scripts/simulate_verdicts.py makes up and measures."""
