"""SMR-Net in sizes that train in a second, for the tests of training and of salient objects."""

from __future__ import annotations

TINY = {
    "method": "SMR-Net",
    "name": "tiny",
    "source": "a test",
    "data": {"datasets": {"samples": None}, "labels": ["salient"], "holdout": 2},
    "network": {
        "fusion": {"channels": 8, "growth": 4},
        "detection": {"blocks": [1, 1, 1, 1], "width": 8, "heads": 8, "channels": 8},
    },
    "batch": 2,
    "steps": 3,
    "rounds": 2,
    "stages": [
        {"name": "fuse", "epochs": 1, "parts": ["fusion"], "augment": {"crop": 64}},
        {"name": "detect", "epochs": 2, "parts": ["detection"], "augment": {"resize": 64}},
    ],
    "optimiser": {"lr": 3e-3, "clip": 1.0},
}
