"""gallery.md: every kind of plot and every form of a table, each made by the command that stands beside it."""

from __future__ import annotations

import contextlib
import functools
import shlex
import shutil
import tempfile
from importlib import resources
from pathlib import Path

from as_markdown import code
from click.testing import CliRunner

from evalkit.cli import main

RECORDS = "evalkit/leaderboards/measured/vifb"  # in a clone, and here
FEW = "--methods GTF,CBF,IFCNN,SeAFusion"
LINES = 14  # of a text that are shown
BENCH = """\
title: Sample scenes
convention: smfnet
metrics: [EN, VIF, SSIM]
datasets: {samples: {}}
methods: [average, laplacian]
data_root: DATA
"""
HEAD = """\
# Gallery

Every kind of plot and every form of a table, made by the command beside it when this page was made. A picture is 3.5
inches wide where not said otherwise, as a column of a paper is. Most are of the records that evalkit ships of the
VIFB benchmark: 21 pairs, 12 methods, measured on the fused images that the benchmark publishes.
"""
PLOTS = {
    "radar": (f"radar {RECORDS} {FEW} --metrics EN,MI,AG,Qabf,SSIM,CV", "Methods over metrics; outside is better."),
    "cumulative": (f"cumulative {RECORDS} {FEW} --metrics Qabf,SSIM", "The distribution of a metric over the pairs."),
    "bar": (f"bar {RECORDS} {FEW} --metrics Qabf,SSIM", "Means with a 95 % bootstrap interval."),
    "box": (f"box {RECORDS} {FEW} --metrics Qabf,SSIM", "Quartiles of the values per image."),
    "critical": (f"critical {RECORDS} --metrics Qabf", "Mean ranks, and which methods do not differ significantly."),
    "scatter": (
        f"scatter {RECORDS} --metrics Qabf --methods IFCNN,SeAFusion,SwinFusion --cost cards",
        "Quality against parameters, of the methods whose cards count them.",
    ),
    "pr": ("pr MAPS --truth DATA/samples/salient", "Precision and recall of saliency maps."),
    "f": ("f MAPS --truth DATA/samples/salient", "F against the threshold."),
    "grid": (
        "grid runs/bench --data-root DATA --scenes 003_smoke --width column --per-line 4",
        "Fused images side by side, enlarged where the methods differ most.",
    ),
}
IMAGES = """\
## Pictures of images and maps

Records hold no images, so these are of generated scenes. The infrared and the visible images are taken for saliency
maps.

```yaml title="bench.yaml"
{bench}```

```sh
evalkit data sample DATA --count 4 --size 320x240
evalkit reproduce bench.yaml --out runs/bench
mkdir MAPS
cp -r DATA/samples/ir MAPS/infrared
cp -r DATA/samples/vi MAPS/visible
```
"""
TABLES = {
    "markdown": ("--format markdown", "Markdown: best in bold, second underlined."),
    "transpose": ("--format markdown --transpose --digits 2 --rank-column", "Methods as columns, mean ranks, digits."),
    "std": ("--format markdown --std --digits 3,CV=1", "With the standard deviation over the images."),
    "latex": (
        "--format latex --digits 3 --siunitx --caption 'Our results.' --label tab:ours",
        "LaTeX with siunitx.",
    ),
    "html": ("--format html --digits 3 --out table.html", "HTML, as a page of its own."),
    "csv": ("--format csv", "CSV with all digits."),
    "json": ("--format json", "JSON for machines."),
    "xlsx": ("--format xlsx --out table.xlsx", "Excel: numbers with all digits, a sheet per data set."),
}
SHOWN = {"latex": "latex", "csv": "text", "json": "json"}  # form -> language of the block that shows it


@functools.cache
def made() -> tuple[dict[str, bytes], dict[str, str]]:
    """Files that commands write, by name, and what the commands of tables print; made once."""
    files, printed = {}, {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path(RECORDS).parent.mkdir(parents=True)
        Path(RECORDS).symlink_to(str(resources.files("evalkit.leaderboards") / "measured" / "vifb"))
        Path("bench.yaml").write_text(BENCH, encoding="utf-8")
        run("evalkit data sample DATA --count 4 --size 320x240")
        run("evalkit reproduce bench.yaml --out runs/bench --workers 1")
        for name, role in (("infrared", "ir"), ("visible", "vi")):
            shutil.copytree(f"DATA/samples/{role}", f"MAPS/{name}")
        for kind in PLOTS:
            run(plot_command(kind))
        for form in TABLES:
            printed[form] = run(table_command(form))
        for file in (*(f"{kind}.png" for kind in PLOTS), "table.html", "table.xlsx"):
            files[file] = Path(file).read_bytes()
    return files, printed


def run(command: str) -> str:
    """What a command prints. Raises RuntimeError where it does not end with exit code 0."""
    result = CliRunner().invoke(main, shlex.split(command)[1:])
    if result.exit_code:
        raise RuntimeError(f"{command} ended with exit code {result.exit_code}: {result.output}")
    return result.stdout


def plot_command(kind: str) -> str:
    return f"evalkit plot {PLOTS[kind][0]} --out {kind}.png"


def table_command(form: str) -> str:
    return f"evalkit table {RECORDS} {TABLES[form][0]}"


def files() -> dict[str, bytes]:
    """Address in the site -> a picture or a table."""
    return {f"gallery/{name}": data for name, data in made()[0].items()}


def page() -> str:
    """The page as Markdown."""
    parts = [HEAD]
    for kind, (_, words) in PLOTS.items():
        if kind == "pr":
            parts.append(IMAGES.format(bench=BENCH))
        parts.append(f"### {kind} {{ #plot-{kind} }}\n\n{words}\n\n```sh\n{plot_command(kind)}\n```\n")
        parts.append(f"![{words}](gallery/{kind}.png){{ .plot }}\n")
    parts.append("## Tables\n\n`evalkit table` also takes a run of your own; [Tables](tables.md) has all options.\n")
    parts += (f"### {form} {{ #table-{form} }}\n\n{_table(form)}\n" for form in TABLES)
    return "\n".join(parts)


def _table(form: str) -> str:
    text = made()[1][form]
    shown = f"{TABLES[form][1]}\n\n```sh\n{table_command(form)}\n```\n"
    if form == "xlsx":
        return f"{shown}\nThe [file](gallery/table.xlsx). It needs {code('pip install evalkit[xlsx]')}."
    if form == "html":
        return f'{shown}\n<iframe class="sample" src="gallery/table.html" title="A table as HTML"></iframe>\n'
    if language := SHOWN.get(form):
        lines = text.splitlines()
        return f"{shown}\n```{language}\n" + "\n".join([*lines[:LINES], *["..."] * (len(lines) > LINES)]) + "\n```\n"
    return f"{shown}\n" + "\n".join(line for line in text.splitlines() if not line.startswith("#")) + "\n"
