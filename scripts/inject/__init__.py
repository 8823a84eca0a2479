"""Faults that are injected into runs: each module registers its own with `fault`, for `scripts/inject_test.py`."""
