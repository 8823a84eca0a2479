"""The compiled loops and the forms without them: equal values, on any vector unit; and what is not of this version."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.compiled import kernels
from evalkit.metrics.evaluate import evaluate, measure
from evalkit.metrics.fusion.vif import _KERNELS
from evalkit.metrics.image import Image, Pair
from evalkit.metrics.registry import all_full_names, definitions

COMPILER = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
compiled = pytest.mark.skipif(not kernels.compiled(), reason="evalkit was installed without a C compiler")


def noise(seed: int, height: int, width: int, levels: int = 256, flat: int = 0) -> np.ndarray:
    image = np.random.default_rng(seed).integers(0, levels, (height, width), dtype=np.uint8)
    image[: height * flat // 4] = 7 + 62 * (seed % 5)  # windows without variance, of any level
    return image


@compiled
@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(2, 90),
    st.integers(2, 90),
    st.sampled_from([2, 3, 256]),
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)),
)
def test_both_forms_give_the_same(seed, height, width, levels, flat):
    images = [noise(seed + k, height, width, levels, flat[k]) for k in range(3)]
    fast = evaluate(*images, all_full_names())
    with kernels.without():
        assert not kernels.compiled()
        slow = evaluate(*images, all_full_names())
    assert fast.missing == slow.missing
    for name, value in fast.items():
        if name not in fast.missing:
            assert value == pytest.approx(slow[name], rel=1e-11, abs=1e-12), name


@pytest.mark.parametrize("in_c", [pytest.param(True, marks=compiled), False])
def test_large_images_are_computed_without_keeping_arrays_of_intermediate_values(monkeypatch, in_c):
    """In strips or anew: whatever they are a sum of, no pixel is left out or counted twice."""
    images = [Image(noise(k, 171, 165)) for k in range(3)]
    names = definitions(all_full_names(), "textbook")
    with nullcontext() if in_c else kernels.without():
        usual = measure(Pair(*images), names)
        for module in [module for name, module in sys.modules.items() if name.startswith("evalkit.metrics.")]:
            if hasattr(module, "LARGE"):
                monkeypatch.setattr(module, "LARGE", 1)
        monkeypatch.setattr("evalkit.metrics.image.WIDE_STRIP", 40)
        in_parts = measure(Pair(*(Image(i.array) for i in images)), names)
    assert in_parts.missing == usual.missing
    for name, value in usual.items():
        assert in_parts[name] == pytest.approx(value, rel=1e-12, nan_ok=True), name


@compiled
@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 99), st.sampled_from([1, 2]), st.sampled_from([1, 2, 3, 4]), st.integers(17, 40), st.integers(17, 70)
)
def test_a_filter_is_the_sum_of_its_window(seed, step, scale, height, width):
    x, w = np.random.default_rng(seed).random((height, width)), _KERNELS[scale]
    windows = np.lib.stride_tricks.sliding_window_view(x, (len(w), len(w)))[::step, ::step]
    expected = np.einsum("ijkl,k,l->ij", windows, w, w)
    np.testing.assert_allclose(kernels.filtered(x, w, step), expected, rtol=1e-13)


@compiled
def test_columns_beyond_a_block_are_the_same(monkeypatch):
    x = np.random.default_rng(1).random((20, 2200))  # blocks of 1024 columns
    whole = kernels.filtered(x, _KERNELS[1])
    np.testing.assert_array_equal(
        whole[:, 900:1200], kernels.filtered(np.ascontiguousarray(x[:, 900:1216]), _KERNELS[1])
    )


@compiled
@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
def test_values_do_not_depend_on_the_vector_unit(tmp_path, monkeypatch):
    """The library, compiled without wide vectors or without any optimisation, gives the same bytes."""
    images = [noise(k, 97, 131, flat=k) for k in range(3)]
    names = [name for name in all_full_names() if "[smfnet]" in name or "[textbook]" in name]
    expected = evaluate(*images, names)
    source = kernels.HERE / "kernels.c"
    sha = hashlib.sha256(source.read_bytes()).hexdigest()
    for number, flags in enumerate((["-O3", "-DWIDE="], ["-O0", "-DWIDE="])):
        library = tmp_path / f"plain{number}.so"
        more = ["-std=gnu99", "-ffp-contract=off", "-fPIC", "-shared", f'-DSOURCE="{sha}"', "-o", str(library)]
        subprocess.run([COMPILER, *flags, *more, str(source), "-lm"], check=True)
        loaded = kernels.typed(ctypes.CDLL(str(library)))
        monkeypatch.setattr(kernels, "_library", lambda loaded=loaded: loaded)
        assert evaluate(*images, names) == expected


@compiled
def test_a_library_of_another_version_is_not_used(tmp_path, monkeypatch):
    (tmp_path / "kernels.c").write_text((kernels.HERE / "kernels.c").read_text() + "\n")
    shutil.copy(kernels.HERE / kernels.NAME, tmp_path / kernels.NAME)
    monkeypatch.setattr(kernels, "HERE", tmp_path)
    kernels._library.cache_clear()
    with pytest.warns(UserWarning, match="not of this version of evalkit"):
        assert not kernels.compiled()
    (tmp_path / kernels.NAME).unlink()  # it is mapped into memory: not to be written over
    (tmp_path / kernels.NAME).write_bytes(b"nothing")
    kernels._library.cache_clear()
    with pytest.warns(UserWarning, match="not of this version of evalkit"):
        assert not kernels.compiled()
    (tmp_path / kernels.NAME).unlink()
    kernels._library.cache_clear()
    assert not kernels.compiled()
    kernels._library.cache_clear()


def test_they_can_be_left_unused():
    code = "from evalkit.compiled.kernels import compiled; print(compiled())"
    environment = os.environ | {"EVALKIT_KERNELS": "off"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(COMPILER is None, reason="no C compiler")
def test_installing_compiles_and_goes_on_without_a_compiler(tmp_path):
    root = Path(__file__).parents[1]
    (tmp_path / "evalkit/compiled").mkdir(parents=True)
    shutil.copy(root / "hatch_build.py", tmp_path)
    shutil.copy(root / "evalkit/compiled/kernels.c", tmp_path / "evalkit/compiled")
    command = [sys.executable, "hatch_build.py"]
    without = subprocess.run(command, cwd=tmp_path, env=os.environ | {"CC": "no-such"}, capture_output=True, text=True)
    assert without.returncode == 1
    assert "no-such cannot be run" in without.stderr
    failed = subprocess.run(command, cwd=tmp_path, env=os.environ | {"CC": "false"}, capture_output=True, text=True)
    assert "metrics will take longer" in failed.stderr
    assert [path.name for path in (tmp_path / "evalkit/compiled").iterdir()] == ["kernels.c"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert (tmp_path / "evalkit/compiled" / kernels.NAME).is_file()
