"""`scripts/bench/cli.py`: what is timed, what the estimate makes of it, and the chart."""

from __future__ import annotations

import json

import pytest
from bench_pairs import ManyPairs, Sample
from bench_scale import LLVIP, Point, bench_scale, chart, decode, estimate, measure, write_pairs
from cli import bench
from click.testing import CliRunner

from evalkit.errors import EvalkitError


def points() -> list[Point]:
    grown = [("workers", 1, 1), ("workers", 2, 1), ("methods", 1, 1), ("methods", 4, 1), ("pixels", 1, 1)]
    found = [Point(v, w, m, "48x64", 8, 4.0 / w, 4.0 * m, 0.5, 1000) for v, w, m in grown]
    return [*found, Point("paper", 1, 12, "1024x1280", 4, 9.0, 8.0, 0.4, 10**8)]


def test_a_setting_is_measured_whole(tmp_path):
    jobs = write_pairs(tmp_path, "80x96", 3)
    assert len({path.read_bytes() for job in jobs for path in (job.infrared, job.visible)}) == 6
    one, two = (measure("methods", 1, methods, "80x96", jobs) for methods in (1, 2))
    assert one.pairs == two.pairs == 3
    assert 0 < one.decoding < one.processor < two.processor
    assert one.decoded == 3 * 80 * 96 * (1 + 3 + 1)  # infrared, visible in colour, fused
    assert two.decoded == decode(jobs)[1] + 3 * 80 * 96
    assert one.rate == 3 / one.wall


def test_the_estimate_divides_the_work_over_the_cores():
    one, many = estimate(points(), [1, 16])
    assert one["seconds"] == LLVIP / 4 * 8.0
    assert many["seconds"] == one["seconds"] / 16
    assert many["floor"] == LLVIP / 4 * 0.4 / 16
    assert many["decoded_gb"] == one["decoded_gb"] == pytest.approx(LLVIP / 4 * 0.1)


def test_the_chart_is_a_file_with_the_same_bytes_each_time():
    files = [chart(points()).data("svg") for _ in range(2)]
    assert files[0] == files[1]
    labels = [axis.get_xlabel() for axis in chart(points()).figure.axes]
    assert labels == ["workers", "methods per pair", "megapixels", "cores"]


@pytest.mark.parametrize("wrong", [{"sizes": ["big"]}, {"workers": [0]}, {"methods": [0]}, {"pairs": 0}])
def test_wrong_settings_say_so(wrong):
    with pytest.raises(EvalkitError):
        bench_scale(**{"workers": [1], "methods": [1], "sizes": ["48x64"], "pairs": 1} | wrong)


def test_the_command_says_what_is_wrong():
    for options, says in ((["--sizes", "big"], "ROWSxCOLUMNS"), (["--workers", "two"], "'two' is not a count")):
        result = CliRunner().invoke(bench, ["scale", "--pairs", "1", "--methods", "1", *options])
        assert result.exit_code == 2
        assert says in result.stderr


def test_metrics_are_timed_beside_their_dense_versions(tmp_path):
    file = tmp_path / "bench.json"
    arguments = ["metrics", "--sizes", "64x80", "--metrics", "EN,CB[vifb]", "--repeats", "1", "--out", str(file)]
    result = CliRunner().invoke(bench, arguments)
    assert result.exit_code == 0, result.output
    # without the rows of tensors, which are there with PyTorch
    rows = [row for row in json.loads(file.read_text()) if not row["metric"].startswith("nine,")]
    assert [row["metric"] for row in rows] == ["all nine[smfnet]", "EN[smfnet]", "CB[vifb]"]
    assert rows[0]["dense"] > 0
    assert rows[0]["peak_mb"] > 10
    assert rows[2]["dense"] is None
    assert CliRunner().invoke(bench, ["metrics", "--sizes", "big"]).exit_code == 2


# many pairs


def test_phases_and_memory_are_read_off_the_samples():
    rows = [0] * 40 + list(range(1, 21)) + [20] * 41
    samples = [Sample(float(i), 100.0 + (i >= 50) * 20, 0.1 * i, n) for i, n in enumerate(rows)]
    result = ManyPairs(10, 2, 1, samples, 1.5, 7)
    assert result.seconds() == {"whole": 100.0, "fuse": 39.0, "measure": 19.0, "table": 42.0}
    assert [result.megabytes_at(share) for share in (0.05, 0.5, 0.95)] == [100, 120, 120]
    still = ManyPairs(10, 2, 1, samples[:40], 1.5, 7)
    assert still.seconds()["measure"] == 0


@pytest.mark.slow
def test_many_pairs_run_on_a_cluster_of_processes(tmp_path):
    pytest.importorskip("distributed")
    folder = str(tmp_path / "many")
    result = CliRunner().invoke(bench, ["pairs", folder, "--pairs", "40", "--methods", "average,maximum", "--json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["run_files"] >= 2 * 40 + 2 + 5  # fused images, scores, tables
    assert 0 < figures["megabytes"]["0.5"] <= figures["megabytes"]["peak"]
    again = CliRunner().invoke(bench, ["pairs", folder])
    assert again.exit_code == 2
    assert "holds a run" in again.stderr
