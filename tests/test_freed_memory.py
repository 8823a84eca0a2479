"""Memory that was freed is kept for the next image's arrays while a network works, and no longer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from evalkit.engine.processes import _glibc, keeping_large_memory

STATUS = Path("/proc/self/statm")
STEPS = """
import resource
from pathlib import Path

import numpy as np

from evalkit.engine.processes import keeping_large_memory

SIZE = 2**27


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def added():
    np.ones(SIZE, np.uint8)  # gone at once
    return (resident() - before) / SIZE


before = resident()
with keeping_large_memory() as give_back:
    print(added())
    give_back()
    print((resident() - before) / SIZE)
    added()
print((resident() - before) / SIZE)
print(added())
"""


@pytest.mark.skipif(_glibc() is None or not STATUS.exists(), reason="neither Linux nor glibc")
def test_large_arrays_are_kept_between_images_and_given_back_at_the_end():
    # in a process of its own: what other tests freed before would be taken again, and nothing be added
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True)
    kept, given_back, after, as_ever = (float(line) for line in done.stdout.split())
    assert kept > 0.5
    assert max(given_back, after, as_ever) < 0.5


def test_another_c_library_changes_nothing(monkeypatch):
    monkeypatch.setattr("evalkit.engine.processes._glibc", lambda: None)
    with keeping_large_memory() as give_back:
        give_back()
