"""How fast evalkit measures.

python scripts/bench/cli.py metrics      milliseconds per pair of each metric
python scripts/bench/cli.py scale        pairs per second over workers, methods and pixels
python scripts/bench/cli.py pairs FOLDER very many small pairs on a dask cluster: memory of the starting process
python scripts/bench/cli.py site         processor seconds of the leaderboards' site
python scripts/bench/cli.py memory       GiB of each fusion network, counted on shapes
python scripts/bench/cli.py networks     processor seconds of each fusion network
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from bench_metrics import NINE
from bench_metrics import SIZES as METRIC_SIZES
from bench_metrics import bench_metrics as measure_metrics
from bench_pairs import TEN, bench_pairs
from bench_scale import METHODS, SIZES, WORKERS, bench_scale, chart, estimate
from bench_site import bench_site

from evalkit.commands.console import print_json, print_rows, progress
from evalkit.commands.options import json_option, names
from evalkit.commands.program import Program
from evalkit.errors import EvalkitError, spelled
from evalkit.files.write import write_text
from evalkit.metrics.registry import definitions


@click.group(cls=Program)
def bench() -> None:
    """Measure speed."""


@bench.command("metrics")
@click.option("--metrics", callback=names, help="E.g. VIF[smfnet],CB; the nine common ones, CV and CB when not given.")
@click.option("--sizes", callback=names, help="ROWSxCOLUMNS, ...; 450x620,768x1024,1024x1280 when not given.")
@click.option("--repeats", type=click.IntRange(1, 1000), default=5, show_default=True, help="The median counts.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the figures to this JSON file.")
@json_option
def bench_metrics(
    metrics: list[str] | None, sizes: list[str] | None, repeats: int, out: Path | None, as_json: bool
) -> None:
    """Milliseconds per pair of each metric, for a first and a further method on the same sources."""
    columns = definitions(metrics or [*NINE, "CV[vifb]", "CB[vifb]"], "smfnet")
    rows = measure_metrics([d.full_name for d in columns.values()], sizes or METRIC_SIZES, repeats, progress)
    if out is not None:
        write_text(out, json.dumps(rows, indent=1) + "\n")
    if as_json:
        print_json(rows)
        return
    lines = []
    for row in rows:
        times = [f"{row[key]:.1f}" if row[key] is not None else "–" for key in ("first", "further", "dense")]
        memory = f"{row['peak_mb']:.0f}" if row["peak_mb"] else "–"
        lines.append([row["metric"], row["size"], *times, memory])
    print_rows(["metric", "size", "first", "further", "dense", "peak MB"], lines, "ms per pair, one thread")


@bench.command()
@click.option("--workers", callback=names, help="Counts, e.g. 1,2,4,8; 1 and 2 when not given.")
@click.option("--methods", callback=names, help="Counts of methods per pair; 1,3,6,12 when not given.")
@click.option("--sizes", callback=names, help="ROWSxCOLUMNS, ...; 240x320 to 1024x1280 when not given.")
@click.option("--pairs", type=click.IntRange(1, 10_000), default=16, show_default=True, help="Generated, per setting.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the figures to this JSON file.")
@click.option("--chart", "picture", type=click.Path(path_type=Path), help="Draw them: a .svg, .png or .pdf file.")
@json_option
def scale(
    workers: list[str] | None,
    methods: list[str] | None,
    sizes: list[str] | None,
    pairs: int,
    out: Path | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Pairs per second, and how they grow with workers, methods and pixels; an estimate for LLVIP."""
    points = bench_scale(counts(workers) or WORKERS, counts(methods) or METHODS, sizes or SIZES, pairs, progress)
    found = {"points": [asdict(point) | {"rate": point.rate} for point in points], "llvip": estimate(points)}
    if out is not None:
        write_text(out, json.dumps(found, indent=1) + "\n")
    if picture is not None:
        chart(points).save(picture)
    if as_json:
        print_json(found)
        return
    rows = []
    for p in points:
        per_pair = [f"{1000 * seconds / p.pairs:.1f}" for seconds in (p.processor, p.decoding)]
        rows.append([p.varied, str(p.workers), str(p.methods), p.size, f"{p.rate:.2f}", *per_pair])
    heads = ["varied", "workers", "methods", "size", "pairs/s", "processor ms/pair", "decoding ms/pair"]
    print_rows(heads, rows, "nine metrics, decoding included")
    lines = [[str(r["cores"]), f"{r['seconds'] / 3600:.3f}", f"{r['floor'] / 3600:.3f}"] for r in found["llvip"]]
    title = f"LLVIP, 3463 pairs, 12 methods: an estimate; {found['llvip'][0]['decoded_gb']:.0f} GB of pixels"
    click.echo()
    print_rows(["cores", "hours", "floor: decoding alone"], lines, title)


@bench.command()
@click.option("--repeats", type=click.IntRange(1, 100), default=5, show_default=True, help="The median counts.")
@json_option
def site(repeats: int, as_json: bool) -> None:
    """Processor seconds and memory of `evalkit leaderboard build` with the shipped records, Python's start included."""
    rows = bench_site(repeats, progress)
    if as_json:
        print_json(rows)
        return
    heads = ["command", "processor s", "wall s", "peak MB", "files MB"]
    lines = [
        [
            r["command"],
            *(f"{r[key]:.2f}" for key in ("processor", "wall")),
            f"{r['peak_mb']:.0f}",
            f"{r['files_mb']:.1f}",
        ]
        for r in rows
    ]
    print_rows(heads, lines, f"the leaderboards' site, median of {repeats}")


@bench.command("pairs")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--pairs", type=click.IntRange(1, 1_000_000), default=20_000, show_default=True)
@click.option("--methods", callback=names, help="Classical methods; ten when not given.")
@click.option("--size", type=click.IntRange(16, 4096), default=32, show_default=True, help="Rows and columns.")
@click.option("--workers", type=click.IntRange(1), default=2, show_default=True, help="Processes of the cluster.")
@json_option
def many_pairs(folder: Path, pairs: int, methods: list[str] | None, size: int, workers: int, as_json: bool) -> None:
    """A benchmark of very many small pairs on a dask cluster of this machine; FOLDER takes its images and its run."""
    result = bench_pairs(folder, pairs, methods or TEN, size, workers, progress)
    seconds, memory = result.seconds(), {share: result.megabytes_at(share) for share in (0.05, 0.25, 0.5, 0.75, 0.95)}
    figures = {
        "pairs": result.pairs,
        "methods": result.methods,
        "workers": result.workers,
        "seconds": seconds,
        "pairs_per_second": result.pairs / seconds["whole"],
        "processor_seconds": result.samples[-1].processor,
        "megabytes": memory | {"peak": max(s.megabytes for s in result.samples)},
        "run_megabytes": result.run_megabytes,
        "run_files": result.run_files,
    }
    write_text(folder / "figures.json", json.dumps(figures | {"samples": [asdict(s) for s in result.samples]}) + "\n")
    if as_json:
        print_json(figures)
        return
    rows = [
        ["pairs, methods, workers", f"{result.pairs}, {result.methods}, {result.workers}"],
        *([f"seconds: {name}", f"{value:.1f}"] for name, value in seconds.items()),
        ["pairs per second", f"{figures['pairs_per_second']:.1f}"],
        ["processor seconds of the starting process", f"{figures['processor_seconds']:.1f}"],
        *([f"MiB of the starting process at {100 * share:.0f} %", f"{value:.0f}"] for share, value in memory.items()),
        ["MiB of the starting process, peak", f"{figures['megabytes']['peak']:.0f}"],
        ["run folder", f"{result.run_megabytes:.0f} MiB in {result.run_files} files"],
    ]
    print_rows(["", ""], rows, "a benchmark of generated pairs")


networks_option = click.option("--networks", callback=names, help="E.g. SMFNet,CDDFuse; all when not given.")


@bench.command()
@networks_option
@json_option
def memory(networks: list[str] | None, as_json: bool) -> None:
    """The most memory that one pair takes on its way through each fusion network; nothing is computed."""
    from bench_networks import SIZES, bench_memory, shipped_networks  # needs torch

    rows = bench_memory(networks or shipped_networks(), progress)
    if as_json:
        print_json(rows)
        return
    lines = [[r["network"], *(f"{r[size]:.2f}" for size in SIZES), str(r["reach"] or "the whole image")] for r in rows]
    print_rows(["network", *SIZES, "reach"], lines, "GiB in float32, one pair, weights not counted")


@bench.command("networks")
@networks_option
@click.option("--ways", callback=names, help="E.g. 'kept memory,bf16'; all when not given.")
@click.option("--repeats", type=click.IntRange(1, 100), default=3, show_default=True, help="The median counts.")
@json_option
def seconds_of_networks(networks: list[str] | None, ways: list[str] | None, repeats: int, as_json: bool) -> None:
    """Processor seconds of each fusion network for one 640x480 pair on one thread."""
    from bench_networks import WAYS, bench_networks, shipped_networks  # needs torch

    ways = [spelled("way", way, WAYS) for way in ways or WAYS]
    rows = bench_networks(networks or shipped_networks(), ways, repeats, progress)
    if as_json:
        print_json(rows)
        return
    lines = [[r["network"], *(f"{r[way]:.2f}" for way in ways)] for r in rows]
    print_rows(["network", *ways], lines, f"processor seconds of a 640x480 pair, one thread, median of {repeats}")


def counts(texts: list[str] | None) -> list[int]:
    """A list of numbers. Raises EvalkitError."""
    for text in texts or []:
        if not text.isdecimal():
            raise EvalkitError(f"{text!r} is not a count, expected numbers such as 1,2,4.")
    return [int(text) for text in texts or []]


if __name__ == "__main__":
    bench(prog_name="cli.py")
