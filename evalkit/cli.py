"""The command line: every command is a module of `evalkit.commands`; what is heavy is imported inside them."""

from __future__ import annotations

import os

import click

from evalkit.commands.audit import audit
from evalkit.commands.check import check
from evalkit.commands.compare import compare
from evalkit.commands.coverage import coverage
from evalkit.commands.data import data
from evalkit.commands.evaluate import evaluate, evaluate_saliency, evaluate_segmentation
from evalkit.commands.fuse import fuse
from evalkit.commands.init import init
from evalkit.commands.leaderboard import leaderboard
from evalkit.commands.list import list_command, show
from evalkit.commands.plot import plot
from evalkit.commands.program import Program
from evalkit.commands.rank import rank
from evalkit.commands.report import report
from evalkit.commands.reproduce import reproduce
from evalkit.commands.table import table
from evalkit.commands.train import train

# threads that wait for each other sleep: where other programs need the cores, spinning costs ten times the time
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

COMMANDS = (
    audit, check, compare, coverage, data, evaluate, evaluate_saliency, evaluate_segmentation, fuse, init, leaderboard,
    list_command, plot, rank, report, reproduce, show, table, train,
)  # fmt: skip


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="evalkit")
def main() -> None:
    """Regenerate the tables of infrared-visible image fusion papers, and see where they hold.

    \b
    First steps:
      evalkit reproduce smfnet-table1 --sample      a table from generated scenes
      evalkit evaluate FUSED --infrared IR --visible VI --convention smfnet
      evalkit list protocols                        what can be reproduced

    Exit codes: 0 done and complete, 1 a check failed, 2 wrong usage or cannot go on, 3 incomplete (missing values, each
    with its reason), 130 interrupted.
    """


for command in COMMANDS:
    main.add_command(command)


if __name__ == "__main__":
    main()
