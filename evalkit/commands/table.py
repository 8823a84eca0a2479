"""`evalkit table`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from evalkit.commands.options import with_published_option
from evalkit.errors import EvalkitError

TEXTS = ["csv", "latex", "markdown", "html", "json"]


@click.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option("--published", metavar="PROTOCOL", help="Instead of a run: the published table alone.")
@click.option("--format", "form", type=click.Choice([*TEXTS, "xlsx"]), default="markdown", show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to a file; xlsx needs one.")
@click.option("--digits", help="Decimals: 3, or EN=2,VIF=4, or 3,EN=2.")
@click.option("--caption", help="In place of evalkit's own.")
@click.option("--label", help="LaTeX's, e.g. tab:main; of several tables <label>-<data set>.")
@click.option("--transpose", is_flag=True, help="Methods as columns.")
@click.option("--rank-column", is_flag=True, help="Mean rank of each row over the columns that all rows have.")
@click.option(
    "--bold/--colour", default=True, show_default=True, help="Best bold, second underlined; or best red, second blue."
)
@click.option("--siunitx", is_flag=True, help="LaTeX numbers aligned by siunitx's S columns.")
@click.option(
    "--layout",
    type=click.Choice(["per-dataset", "wide"]),
    help="A table per data set, or one with the data sets side by side; as in the paper (LaTeX) when not given.",
)
@click.option("--std", is_flag=True, help="value ± standard deviation over the images.")
@with_published_option
@click.option(
    "--significance",
    type=click.Choice(["wilcoxon", "permutation"]),
    help="Mark what the best of a column is not significantly better than.",
)
def table(
    run: Path | None,
    published: str | None,
    form: str,
    out: Path | None,
    digits: str | None,
    caption: str | None,
    label: str | None,
    transpose: bool,
    rank_column: bool,
    bold: bool,
    siunitx: bool,
    layout: Literal["per-dataset", "wide"] | None,
    std: bool,
    with_published: bool,
    significance: Literal["wilcoxon", "permutation"] | None,
) -> None:
    """Print the table of a finished run (its --out folder), or a published table, in another format.

    LaTeX is arranged as in the paper: measured values where there are any, the published ones in gray elsewhere.
    """
    from evalkit.files.write import write_bytes
    from evalkit.protocols.table.blank import published_table
    from evalkit.protocols.table.excel import to_xlsx
    from evalkit.protocols.table.export import FORMATS
    from evalkit.protocols.table.style import TableStyle, parse_digits
    from evalkit.protocols.table.table import read_table

    if published is not None and run is None:
        content = published_table(published)
    elif run is not None and published is None:
        content = read_table(run)
    else:
        raise EvalkitError("name the folder of a run or --published PROTOCOL, one of the two.")
    if published is not None and (with_published or std):
        raise EvalkitError("--with-published and --std are of a run: name its folder instead of --published.")
    if form == "xlsx" and out is None:
        raise EvalkitError("an Excel file is not text to print: name a file, e.g. --out table.xlsx.")
    style = TableStyle(
        None if digits is None else parse_digits(digits),
        caption,
        label,
        transpose,
        rank_column,
        "bold" if bold else "colour",
        siunitx,
        layout,
        std,
        with_published,
    )
    if significance is not None:
        from evalkit.leaderboards.marks import significance_marks, with_marks

        if run is None or form in ("csv", "xlsx"):
            raise EvalkitError(
                f"--significance needs a run with scores per image, and a format with marks (not {form})."
            )
        content = with_marks(content, significance_marks(run, significance))
    data = to_xlsx(content, style) if form == "xlsx" else FORMATS[form][1](content, style).encode()
    if out is not None:
        write_bytes(out, data)
    else:
        click.echo(data, nl=False)  # files are UTF-8, whatever the terminal
