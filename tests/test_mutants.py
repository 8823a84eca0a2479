"""The list of mutants stays alive: a text is in the code once, a replacement compiles, the page lists them all."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def load():
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "scripts" / "mutants.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


mutants = load()


@pytest.mark.parametrize("mutant", mutants.MUTANTS, ids=lambda m: m.name)
def test_a_mutant_changes_one_place_and_still_compiles(mutant):
    path = mutants.place(mutant, ROOT)
    compile(path.read_text(encoding="utf-8").replace(mutant.text, mutant.by), str(path), "exec")
    assert all((ROOT / "tests" / f"test_{name}.py").is_file() for name in mutant.tests.split())


def test_the_page_lists_every_mutant():
    assert mutants.table() in (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    assert len({m.name for m in mutants.MUTANTS}) == len(mutants.MUTANTS) >= 40


@pytest.mark.parametrize(("code", "times"), [("value = 1\n", 0), ("value = 2\nvalue = 2\n", 2)])
def test_a_text_that_is_not_there_once_is_an_error(tmp_path, code, times):
    (tmp_path / "evalkit").mkdir()
    (tmp_path / "evalkit" / "x.py").write_text(code)
    with pytest.raises(mutants.TextError, match=f"occurs {times} times"):
        mutants.place(mutants.Mutant("a", "b", "value = 2", "value = 3", ""), tmp_path)
