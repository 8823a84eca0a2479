"""Ranks, mean rank and Borda count: ties, missing values, directions, conventions; of runs and of published tables."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from conftest import make_tno
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from test_reproduce import run
from test_significance import write_scores

import evalkit
from evalkit.errors import DataError, EvalkitError, UnknownNameError
from evalkit.leaderboards.overall import Rankings, rank_overall
from evalkit.leaderboards.rank import rank_values
from evalkit.leaderboards.run_values import rank_published
from evalkit.metrics.registry import better_of
from evalkit.protocols.schema import protocol, rows_of
from evalkit.protocols.table.cells import Cell, Column
from evalkit.protocols.table.published import read_rows
from evalkit.protocols.table.table import Table

NAN = math.nan
UP = {"EN": "higher", "MSE": "lower"}


def frame(**rows):
    return pd.DataFrame.from_dict(rows, orient="index", columns=["EN", "MSE"], dtype=float)


def test_ranks_follow_the_direction_and_ties_share():
    found = rank_values(frame(a=[7, 10], b=[7, 30], c=[6, 20], d=[5, 10]), UP)
    assert found.ranks.loc["a"].tolist() == [1.5, 1.5]
    assert found.ranks.loc[["b", "c", "d"], "EN"].tolist() == [1.5, 3, 4]
    assert found.ranks.loc[["b", "c", "d"], "MSE"].tolist() == [4, 3, 1.5]
    assert found.mean_rank == {"a": 1.5, "b": 2.75, "d": 2.75, "c": 3.0}
    assert found.borda == {"a": 5.0, "b": 2.5, "d": 2.5, "c": 2.0}  # a beats c and d, ties b; beats b and c, ties d
    assert found.complete


values = st.lists(st.lists(st.sampled_from([1.0, 2.0, 3.0, NAN]), min_size=3, max_size=3), min_size=2, max_size=6)


@given(values, st.lists(st.sampled_from(["higher", "lower"]), min_size=3, max_size=3))
def test_against_counting_by_hand(rows, ways):
    names, metrics = [f"m{i}" for i in range(len(rows))], ["x", "y", "z"]
    table = pd.DataFrame(rows, index=names, columns=metrics)
    found = rank_values(table, dict(zip(metrics, ways, strict=True)))
    for i, name in enumerate(names):
        beaten = []
        for j, (metric, way) in enumerate(zip(metrics, ways, strict=True)):
            mine, others = rows[i][j], [r[j] for k, r in enumerate(rows) if k != i and r[j] == r[j]]
            if mine != mine or not others:
                assert math.isnan(found.ranks.loc[name, metric])
                assert (name, metric) in found.missing
                beaten.append(NAN)
                continue
            sign = 1 if way == "higher" else -1
            wins = sum(sign * mine > sign * other for other in others) + 0.5 * others.count(mine)
            assert found.ranks.loc[name, metric] == len(others) + 1 - wins
            beaten.append(wins)
        if any(map(math.isnan, beaten)):
            assert found.mean_rank[name] is None
            assert found.borda[name] is None
        else:
            assert found.borda[name] == sum(beaten)
            assert found.mean_rank[name] == pytest.approx(found.ranks.loc[name].sum() / 3)
    json.dumps(found.to_dict(), allow_nan=False)


def test_ranks_are_those_of_scipy():
    x = np.random.default_rng(0).normal(size=(9, 2))
    found = rank_values(pd.DataFrame(x, columns=["EN", "MSE"]).rename(index=str), UP)
    expected = np.column_stack([stats.rankdata(-x[:, 0]), stats.rankdata(x[:, 1])])
    assert found.ranks.sort_index().to_numpy().tolist() == expected.tolist()


def test_a_missing_value_is_named_and_has_no_mean_rank():
    found = rank_values(frame(a=[7, 10], b=[8, NAN], c=[6, 20]), UP, {("b", "MSE"): "2 images damaged"})
    assert found.missing == {("b", "MSE"): "2 images damaged"}
    assert found.ranks.loc["b", "EN"] == 1
    assert found.mean_rank == {"a": 1.5, "c": 2.5, "b": None}
    assert found.borda["b"] is None
    assert list(found.ranks.index) == ["a", "c", "b"]
    assert not found.complete


def test_the_common_subset_on_request():
    table, reasons = frame(a=[7, 10], b=[8, NAN], c=[6, 20]), {("b", "MSE"): "damaged"}
    methods = rank_values(table, UP, reasons, "methods")
    assert methods.left_out == {"b": "no value in MSE: damaged"}
    assert methods.mean_rank == {"a": 1.0, "c": 2.0}
    metrics = rank_values(table, UP, reasons, "metrics")
    assert metrics.left_out == {"MSE": "no value of b: damaged"}
    assert metrics.mean_rank == {"b": 1.0, "a": 2.0, "c": 3.0}
    assert methods.complete
    assert metrics.complete


def test_infinite_is_a_missing_value():
    assert rank_values(frame(a=[7, math.inf], b=[8, 1], c=[8, 2]), UP).missing == {("a", "MSE"): "no value"}


def test_alone_is_not_first():
    found = rank_values(frame(a=[7, 1], b=[8, NAN]), UP)
    assert found.missing["a", "MSE"] == "no other method has a value"
    assert found.mean_rank == {"a": None, "b": None}


# --- runs


def write_run(out, scores, convention="smfnet", columns=None, dataset="TNO"):
    """A finished run: method -> metric -> values per image, None where there is none."""
    columns = columns or [Column("EN", "higher", convention), Column("MSE", "lower", convention)]
    cells = []
    for method, by_metric in scores.items():
        for c in columns:
            numbers = by_metric.get(c.name, [None])
            missing_cell = None in numbers
            value = None if missing_cell else float(np.mean(numbers))
            status, reason = ("missing", "not measured") if missing_cell else ("unpublished", "")
            cells.append(Cell(dataset, method, c.name, value, None, len(numbers), status, reason))
        rows = [
            [i, *("" if v is None else v for v in row)] for i, row in enumerate(zip(*by_metric.values(), strict=True))
        ]
        (out / "scores" / dataset).mkdir(parents=True, exist_ok=True)
        if rows:
            write_scores(out / "scores" / dataset / f"{method}.csv", list(by_metric), rows)
    Table("smfnet-table1", "t", "s", convention, "c", columns, pairs={dataset: 6}, cells=cells).write(out)
    return out


def scores(seed, shift=0.0):
    rng = np.random.default_rng(seed)
    return {"EN": (rng.normal(7, 0.3, 6) + shift).tolist(), "MSE": rng.normal(90, 9, 6).tolist()}


def test_a_run_is_ranked_with_friedman_over_its_images(tmp_path):
    of = {"a": scores(1), "b": scores(2, 1), "c": scores(3, 3)}
    out = write_run(tmp_path / "run", of)
    (found,) = evalkit.rank(out)
    assert found.ranks["EN"].to_dict() == {"a": 3, "b": 2, "c": 1}
    mse = {m: np.mean(of[m]["MSE"]) for m in of}
    assert list(found.ranks["MSE"].sort_values().index) == sorted(mse, key=mse.__getitem__)
    for metric in ("EN", "MSE"):
        result = found.friedman[metric]
        assert result.p == pytest.approx(stats.friedmanchisquare(*(of[m][metric] for m in of)).pvalue)
        assert result.n == 6
    assert list(found.friedman["EN"].ranks) == ["c", "b", "a"]
    code, text, _ = run("rank", out)
    assert code == 0
    assert "mean rank" in text
    assert "chi-square" in text
    code, text, _ = run("rank", out, "--json", "--methods", "a,b", "--metrics", "en")
    (result,) = json.loads(text)["rankings"]
    assert result["methods"]["b"] == {"mean_rank": 1.0, "borda": 1.0, "ranks": {"EN": 1.0}}
    assert "Friedman's test needs three" in result["no_friedman"]["EN"]


def test_a_missing_value_in_a_run_is_exit_code_3_and_common_cures_it(tmp_path):
    of = {"a": scores(1), "b": scores(2), "c": scores(3), "d": {"EN": [8.0] * 6, "MSE": [1.0] * 5 + [None]}, "e": {}}
    out = write_run(tmp_path / "run", of)
    code, text, _ = run("rank", out)
    assert code == 3
    assert "not ranked: e, d (MSE): not measured" in text
    (found,) = evalkit.rank(out)
    assert found.ranks.loc["d", "EN"] == 1
    assert found.mean_rank["d"] is None
    assert set(found.friedman["MSE"].ranks) == {"a", "b", "c"}
    assert set(found.friedman["EN"].ranks) == {"a", "b", "c", "d"}
    code, text, _ = run("rank", out, "--common", "methods")
    assert code == 0
    assert "left out: d: no value in MSE: not measured" in text
    code, _, err = run("rank", out, "--common", "metrics")
    assert code == 2
    assert "nothing to rank" in err


def test_runs_on_the_same_data_are_joined(tmp_path):
    first = write_run(tmp_path / "first", {"a": scores(1), "b": scores(2)})
    second = write_run(tmp_path / "second", {"b": scores(4, 1), "c": scores(3, 3)})
    (found,) = evalkit.rank(first, second)
    assert set(found.ranks.index) == {"a", f"b ({first})", f"b ({second})", "c"}
    assert found.ranks.loc["c", "EN"] == 1
    assert set(found.friedman["EN"].ranks) == set(found.ranks.index)


def test_conventions_are_never_ranked_together(tmp_path):
    first = write_run(tmp_path / "first", {"a": scores(1), "b": scores(2)})
    second = write_run(tmp_path / "second", {"c": scores(3)}, "tang")
    code, _, err = run("rank", first, second)
    assert code == 2
    assert "never ranked together" in err
    both = [
        Column("SSIM", "higher", "smfnet"),
        Column("SSIM[tang]", "higher", "tang"),
        Column("EN", "higher", "smfnet"),
    ]
    of = {m: {"SSIM": [1.0, i], "SSIM[tang]": [0.5, i], "EN": [7, i]} for i, m in enumerate("ab")}
    mixed = write_run(tmp_path / "mixed", of, columns=both)
    with pytest.raises(DataError, match="never ranked together"):
        evalkit.rank(mixed)
    (found,) = evalkit.rank(mixed, metrics=["EN", "SSIM[tang]"])
    assert found.mean_rank == {"b": 1.0, "a": 2.0}


def test_runs_on_different_pairs_are_not_joined(tmp_path):
    outs = []
    for height in (40, 48):
        root = make_tno(tmp_path / f"data{height}", 2, height)
        outs.append(tmp_path / f"run{height}")
        use = {"datasets": ["TNO"], "methods": ["average", "maximum"], "workers": 1}
        evalkit.reproduce("smfnet-table1", root, out=outs[-1], **use)
    with pytest.raises(DataError, match="TNO on different pairs"):
        evalkit.rank(*outs)
    (found,) = evalkit.rank(outs[0])
    assert found.ranks["EN"].notna().all()


def test_mistakes_are_named(tmp_path):
    out = write_run(tmp_path / "run", {"a": scores(1), "b": scores(2)})
    for wrong in (["--metrics", "ENN"], ["--methods", "x"], ["--datasets", "TN0"], ["--alpha", "1"]):
        assert run("rank", out, *wrong)[0] == 2, wrong
    assert run("rank", tmp_path / "none")[0] == 2
    with pytest.raises(EvalkitError, match="no run"):
        evalkit.rank()
    with pytest.raises(UnknownNameError, match="TNO"):
        evalkit.rank(out, datasets=["TN0"])


# --- over data sets


def ranking(dataset, convention="smfnet", common=None, **rows):
    """The ranking of one data set: method -> EN and MSE."""
    return rank_values(frame(**rows), UP, {}, common, dataset, convention)


def test_the_overall_rank_is_the_mean_over_the_data_sets():
    tno = ranking("TNO", a=[7, 10], b=[8, 30], c=[6, 20])  # a 2 1, b 1 3, c 3 2
    road = ranking("RoadScene", a=[7, 30], b=[8, 10], c=[8, 20])  # a 3 3, b 1.5 1, c 1.5 2
    overall = rank_overall([tno, road])
    assert overall.by_dataset == {
        "b": {"TNO": 2, "RoadScene": 1.25},
        "c": {"TNO": 2.5, "RoadScene": 1.75},
        "a": {"TNO": 1.5, "RoadScene": 3},
    }
    assert overall.mean_rank == {"b": 1.625, "c": 2.125, "a": 2.25}
    assert overall.frame["tables"].tolist() == [2, 2, 2]
    assert overall.complete
    assert (overall.metrics, overall.datasets) == (["EN", "MSE"], ["TNO", "RoadScene"])
    json.dumps(overall.to_dict(), allow_nan=False)


tables = st.lists(
    st.dictionaries(
        st.sampled_from("abcd"), st.lists(st.sampled_from([1.0, 2.0, NAN]), min_size=2, max_size=2), min_size=2
    ),
    min_size=2,
    max_size=4,
)


@given(tables)
def test_an_overall_rank_is_of_what_is_complete_and_the_rest_is_named(rows):
    rankings = [ranking(f"set{i}", **by_method) for i, by_method in enumerate(rows)]
    overall = Rankings(rankings).overall
    shared = [r for r in rankings if r.ranks.notna().any(axis=None)]
    metrics = [m for m in UP if all(r.ranks[m].notna().any() for r in shared)]
    if len(shared) < 2 or not metrics:
        assert overall is None
        assert Rankings(rankings).no_overall
        return
    assert overall.metrics == metrics
    unranked = {r.dataset for r in rankings} - {r.dataset for r in shared}
    assert set(overall.left_out) == (set(UP) - set(metrics)) | unranked
    for method, mean in overall.mean_rank.items():
        ranks = [r.ranks.loc[method, metrics].mean(skipna=False) if method in r.ranks.index else NAN for r in shared]
        missing = [r.dataset for r, rank in zip(shared, ranks, strict=True) if math.isnan(rank)]
        assert missing == [dataset for m, dataset in overall.missing if m == method]
        assert (mean is None) == bool(missing)
        assert len(overall.by_dataset[method]) == len(shared) - len(missing)
        if mean is not None:
            assert mean == pytest.approx(np.mean(ranks))
    json.dumps(overall.to_dict(), allow_nan=False)


def test_a_method_or_a_metric_that_a_data_set_lacks_is_named():
    tno = ranking("TNO", a=[7, 10], b=[8, 30], c=[6, NAN])
    road = ranking("RoadScene", a=[7, NAN], b=[8, NAN], d=[6, NAN])
    overall = rank_overall([tno, road, ranking("M3FD", a=[NAN, NAN], b=[NAN, NAN])])
    assert overall.left_out == {"M3FD": "nothing is ranked (no value)", "MSE": "not ranked on RoadScene"}
    assert overall.mean_rank == {"b": 1, "a": 2, "c": None, "d": None}
    assert overall.missing == {("c", "RoadScene"): "no row there", ("d", "TNO"): "no row there"}
    assert not overall.complete
    text = overall.texts()[0]
    assert text.rows[-1] == ["d", "–", "3.000", "–", "1"]
    assert "no mean rank: c: RoadScene: no row there" in text.notes
    common = rank_overall([tno, road], "methods")
    assert common.mean_rank == {"b": 1, "a": 2}
    assert common.left_out["c"] == "on RoadScene: no row there"
    assert common.complete


def test_what_has_no_overall_rank_says_why():
    both = ranking("TNO", a=[7, 10], b=[8, 30]), ranking("RoadScene", "tang", a=[7, 10], b=[8, 30])
    assert "different conventions are never ranked together (smfnet, tang)" in Rankings(both).no_overall
    one = ranking("TNO", a=[7, NAN], b=[8, NAN]), ranking("RoadScene", a=[NAN, 1], b=[NAN, 2])
    assert "no metric is ranked on every data set (TNO: EN; RoadScene: MSE)" in Rankings(one).no_overall
    assert Rankings(one).texts()[-1].notes == [f"none: {Rankings(one).no_overall}"]
    assert Rankings(both[:1]).no_overall == "one data set"
    assert len(Rankings(both[:1]).texts()) == 1


def test_a_run_per_data_set_gives_an_overall_rank(tmp_path):
    first = write_run(tmp_path / "first", {"a": scores(1), "b": scores(2, 1), "c": scores(3, 3)})
    of = {"a": scores(4, 9), "b": scores(5), "c": scores(6, 3)}
    second = write_run(tmp_path / "second", of, dataset="RoadScene")
    rankings = evalkit.rank(first, second, metrics="EN")
    assert rankings.overall.by_dataset["a"] == {"TNO": 3, "RoadScene": 1}
    assert rankings.overall.mean_rank == {"c": 1.5, "a": 2, "b": 2.5}
    code, text, _ = run("rank", first, second, "--metrics", "EN")
    assert code == 0
    assert "overall · smfnet · mean rank over 2 tables in EN" in text
    code, text, _ = run("rank", first, second, "--metrics", "EN", "--json")
    assert json.loads(text)["overall"][0]["methods"]["c"] == {
        "mean_rank": 1.5, "tables": 2, "datasets": {"TNO": 1.0, "RoadScene": 2.0}
    }  # fmt: skip
    third = write_run(tmp_path / "third", of, convention="tang", dataset="RoadScene")
    assert run("rank", first, third)[0] == 2
    alone = write_run(tmp_path / "alone", {"a": scores(4), "d": scores(5)}, dataset="RoadScene")
    code, text, _ = run("rank", first, alone)
    assert code == 3
    assert "no mean rank: c, b: RoadScene: no row there" in text
    assert run("rank", first, alone, "--common", "methods")[0] == 0


def test_a_method_of_two_runs_keeps_its_name_on_every_data_set(tmp_path):
    outs = [tmp_path / "first", tmp_path / "second"]
    for out, seed in zip(outs, (1, 5), strict=True):
        write_run(out, {"a": scores(seed), "b": scores(seed + 1)})
    road = write_run(tmp_path / "road", {"a": scores(8), "c": scores(9)}, dataset="RoadScene")
    rankings = evalkit.rank(*outs, road)
    assert set(rankings[0].ranks.index) == {f"{m} ({out})" for m in "ab" for out in outs}
    assert set(rankings[1].ranks.index) == {f"a ({road})", "c"}


# --- published tables


def test_published_values_are_ranked_as_printed():
    rankings = rank_published(rows_of(protocol("smfnet-table1")))
    tno = next(r for r in rankings if r.dataset == "TNO")
    printed = {r.method: r.value for r in rows_of(protocol("smfnet-table1")) if r.dataset == "TNO" and r.metric == "EN"}
    assert list(tno.ranks["EN"].sort_values().index) == sorted(printed, key=lambda m: -printed[m])
    assert tno.mean_rank["SMFNet"] == 2.625  # 2, 3, 1, 4, 1, 1, 1, 8
    code, out, _ = run("rank", "smfnet-table1", "--published", "--datasets", "TNO", "--json")
    assert code == 0
    assert json.loads(out)["rankings"][0]["convention"] == "as published in smfnet-table1"
    assert run("rank", "smfnet-tabel1", "--published")[0] == 2


def test_a_readers_own_table(tmp_path):
    text = "method,class,metric,printed\n"
    for method, numbers in {"a": "0.5,0.7,0.60,3", "b": "0.6,0.5,0.6,2", "c": "0.1,0.2,,9"}.items():
        cells = zip(["Car", "Person", "mean", ""], ["IoU", "IoU", "IoU", "Params"], numbers.split(","), strict=True)
        text += "".join(f"{method},{class_},{metric},{value}\n" for class_, metric, value in cells)
        text += f"{method},,Charm,1\n"
    path = tmp_path / "mine.csv"
    path.write_text(text)
    (found,) = rank_published(read_rows(text, "mine.csv"))
    assert found.mean_rank == {"b": 1.25, "a": 1.75, "c": None}  # 0.60 and 0.6 are tied
    assert found.missing == {("c", "mean IoU"): "not printed"}
    assert found.left_out["Charm"] == "which way is better is not known"
    assert set(found.left_out) == {"Charm", "Car IoU", "Person IoU"}
    code, out, _ = run("rank", path, "--published", "--metrics", "Car IoU,Person IoU", "--json")
    assert code == 0
    assert json.loads(out)["rankings"][0]["methods"]["b"]["ranks"] == {"Car IoU": 1.0, "Person IoU": 2.0}
    assert run("rank", tmp_path / "none.csv", "--published")[0] == 2


def test_protocols_are_not_ranked_together():
    rows = rows_of(protocol("smfnet-table1")) + rows_of(protocol("smfnet-table5"))
    with pytest.raises(DataError, match="one protocol"):
        rank_published(rows)


def test_papers_are_ranked_over_their_tables():
    rankings = rank_published(rows_of(protocol("smfnet-table1")))
    means = {r.dataset: r.mean_rank["SMFNet"] for r in rankings}
    assert rankings.overall.by_dataset["SMFNet"] == means
    assert rankings.overall.mean_rank["SMFNet"] == pytest.approx(np.mean(list(means.values())))
    _, out, _ = run("rank", "smfnet-table1", "psfusion-table1", "--published", "--json")
    assert {o["convention"] for o in json.loads(out)["overall"]} == {
        "as published in smfnet-table1", "as published in psfusion-table1"
    }  # fmt: skip


def test_which_way_is_better():
    assert better_of("MAE") == better_of("FLOPs") == better_of("CE") == "lower"
    assert better_of("EN") == better_of("AP50") == better_of("F") == "higher"
    assert better_of("EN std") is None
