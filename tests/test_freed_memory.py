"""Memory that was freed is kept for the next image's arrays while a network works, and no longer."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from evalkit.engine.processes import _glibc, keeping_large_memory

STATUS = Path("/proc/self/statm")
SIZE = 2**27


def resident() -> int:
    return int(STATUS.read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(_glibc() is None or not STATUS.exists(), reason="neither Linux nor glibc")
def test_large_arrays_are_kept_between_images_and_given_back_at_the_end():
    with keeping_large_memory() as give_back:
        before = resident()
        np.ones(SIZE, np.uint8)  # gone at once
        assert resident() - before > SIZE / 2
        give_back()
        assert resident() - before < SIZE / 2
        np.ones(SIZE, np.uint8)
    assert resident() - before < SIZE / 2
    np.ones(SIZE, np.uint8)
    assert resident() - before < SIZE / 2


def test_another_c_library_changes_nothing(monkeypatch):
    monkeypatch.setattr("evalkit.engine.processes._glibc", lambda: None)
    with keeping_large_memory() as give_back:
        give_back()
