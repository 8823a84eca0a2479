"""Patterns of paths: which files they give, and what is refused."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.data.patterns import parse_pattern
from evalkit.errors import DataError, EvalkitError


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def listed(root: Path, text: str, **names: str) -> dict[str, str]:
    files, _, _ = parse_pattern(text).fill(**names).listing(root)
    return {stem: path.relative_to(root).as_posix() for stem, path in files.items()}


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        ("{method}/{dataset}/{stem}", {"method": "avg", "dataset": "tno"}, {"01": "Avg/TNO/01.PNG"}),
        ("{dataset}/{method}/{stem}_fused", {"method": "Max", "dataset": "TNO"}, {"01": "TNO/Max/01_fused.png"}),
        ("{method}_{dataset}/{stem}", {"method": "Lap", "dataset": "TNO"}, {"01": "Lap_TNO/01.png"}),
        ("flat/{method}_{stem}", {"method": "Avg"}, {"1_a": "flat/Avg_1_a.png"}),
        ("Deep/**/{stem}", {}, {"01": "Deep/results/epoch100/01.png"}),
        ("Deep/*/epoch*/{stem}.png", {}, {"01": "Deep/results/epoch100/01.png"}),
        ("each/{stem}/fused", {}, {"01": "each/01/fused.png", "02": "each/02/fused.bmp"}),
        ("each/{stem}/fused.bmp", {}, {"02": "each/02/fused.bmp"}),
        ("padded/IR{stem:05}", {}, {"7": "padded/IR00007.png"}),
        ("twice/{stem}/{stem}_ir", {}, {"a": "twice/a/a_ir.png"}),
        ("flat/{method}_{stem}", {"method": "*"}, {}),
        ("{method}/{dataset}/{stem}", {"method": "..", "dataset": "TNO"}, {}),
    ],
)
def test_the_files_of_a_pattern(tmp_path, text, names, expected):
    root = tmp_path / "root"
    make(root, "Avg/TNO/01.PNG", "Avg/TNO/note.txt", "Avg/TNO/.01.png", "TNO/Max/01_fused.png", "Lap_TNO/01.png")
    make(root, "flat/Avg_1_a.png", "flat/Max_1_a.png", "Deep/results/epoch100/01.png", "each/01/fused.png")
    make(root, "each/02/fused.bmp", "padded/IR00007.png", "padded/IR0007.png", "padded/IR07x.png", "twice/a/a_ir.png")
    make(root, "twice/b/a_ir.png")
    make(tmp_path, "TNO/secret.png")
    assert listed(root, text, **names) == expected


def test_case_counts_where_it_decides(tmp_path):
    make(tmp_path, "Avg/01.png", "avg/02.png")
    assert listed(tmp_path, "{method}/{stem}", method="Avg") == {"01": "Avg/01.png"}
    assert listed(tmp_path, "{method}/{stem}", method="avg") == {"02": "avg/02.png"}


def test_two_files_of_one_stem_are_named(tmp_path):
    make(tmp_path, "a/x/01.png", "a/y/01.png")
    with pytest.raises(DataError, match=r"two files for '01': a/x/01.png and a/y/01.png"):
        listed(tmp_path, "a/**/{stem}")


def test_two_readings_of_one_name_are_refused(tmp_path):
    make(tmp_path, "e_1_2.png")
    with pytest.raises(DataError, match=r"two ways: its stem is 1_2 or 2"):
        listed(tmp_path, "*_{stem}")


@pytest.mark.parametrize(
    "text", ["a", "", "{stem}/", "{stem}/**", "{foo}_{stem}", "a**/{stem}", "{stem", "{stem}}", "{stem}\n", "{stem:0}"]
)
def test_what_is_not_a_pattern_is_refused(text):
    with pytest.raises(EvalkitError, match="is not a pattern of file names"):
        parse_pattern(text)


def test_the_methods_of_a_pattern(tmp_path):
    make(tmp_path, "Max/TNO/01.png", "avg/tno/01.png", "Other/MSRS/01.png", "TNO/Lap/01.png", "TNO/Lap_2/01.png")
    assert parse_pattern("{method}/{dataset}/{stem}").fill(dataset="TNO").methods(tmp_path) == ["Max", "avg"]
    assert parse_pattern("{dataset}/{method}/{stem}").fill(dataset="TNO").methods(tmp_path) == ["Lap", "Lap_2"]
    assert parse_pattern("{method}_{stem}").methods(tmp_path) == []
    assert parse_pattern("TNO/{method}_2/{stem}").methods(tmp_path) == ["Lap"]


@pytest.mark.parametrize("text", ["*a" * 30 + "{stem}", "**/" * 3 + "{stem}", "x/" * 3000 + "{stem}"])
def test_a_pattern_that_would_take_for_ever_is_refused(text):
    with pytest.raises(EvalkitError, match="too long a search"):
        parse_pattern(text)


def test_deep_folders_are_searched(tmp_path):
    deep = tmp_path
    for _ in range(1200):
        deep = deep / "d"
        os.mkdir(deep)
    (deep / "01.png").touch()
    try:
        assert len(listed(tmp_path, "**/{stem}")) == 1
    finally:  # pytest, which clears up after the tests, does not come so deep
        (deep / "01.png").unlink()
        while deep != tmp_path:
            deep.rmdir()
            deep = deep.parent


def test_links_in_any_folders_are_not_followed(tmp_path):
    make(tmp_path, "a/01.png")
    (tmp_path / "a/loop").symlink_to(tmp_path / "a")
    assert listed(tmp_path, "**/{stem}") == {"01": "a/01.png"}


PART = st.text("ab1_{}*.", min_size=1, max_size=6)
STEM = st.text("abc019_-. é", min_size=1, max_size=8).filter(lambda s: s.strip(" .") == s)


@settings(max_examples=60, deadline=None)
@given(
    stems=st.sets(STEM, min_size=1, max_size=4),
    before=st.sampled_from(["", "x_", "IR"]),
    after=st.text("_ab", max_size=3),
)
def test_a_written_name_gives_its_stem_again(stems, before, after):
    pattern = parse_pattern(f"{before}{{stem}}{after}")
    assert str(pattern) == f"{before}{{stem}}{after}"
    assert {pattern.stem(f"{before}{stem}{after}") for stem in stems} == stems


@settings(max_examples=200, deadline=None)
@given(text=st.lists(PART, min_size=1, max_size=3).map("/".join))
def test_any_text_is_a_pattern_that_is_written_as_it_is_read_or_refused(text):
    try:
        pattern = parse_pattern(text)
    except EvalkitError:
        return
    assert parse_pattern(str(pattern)) == pattern
