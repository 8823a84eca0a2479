"""The examples in docstrings are right: doctest runs those of every module that has some."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import evalkit

PACKAGE = Path(evalkit.__file__).parent


def modules_with_examples() -> list[str]:
    names = ["evalkit", *(module.name for module in pkgutil.walk_packages([str(PACKAGE)], "evalkit."))]
    sources = {name: PACKAGE.joinpath(*name.split(".")[1:]) for name in names}
    files = {name: path / "__init__.py" if path.is_dir() else path.with_suffix(".py") for name, path in sources.items()}
    return [name for name, file in files.items() if ">>> " in file.read_text(encoding="utf-8")]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_of_a_module_are_right(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted
    assert not result.failed
