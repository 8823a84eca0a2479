"""Relations between metrics that hold whatever the images are."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import sqrt

from evalkit.leaderboards.audit.finding import Finding, Sure, cut, grid
from evalkit.protocols.table.published import PublishedRow

# (lesser, factor, greater, how sure, why): lesser <= factor * greater, image by image and therefore for means
BOUNDS: tuple[tuple[str, float, str, Sure, str], ...] = (
    ("F_mean", 1, "F_max", "certain", "a mean over thresholds exceeds the maximum over thresholds"),
    ("E_mean", 1, "E_max", "certain", "a mean over thresholds exceeds the maximum over thresholds"),
    ("AP50:95", 1, "AP50", "certain", "AP falls as the IoU that counts as a hit rises"),
    ("mAP50:95", 1, "mAP50", "certain", "AP falls as the IoU that counts as a hit rises"),
    ("IoU", 1, "Acc", "certain", "IoU = TP/(TP+FP+FN) exceeds the class accuracy TP/(TP+FN)"),
    ("mIoU", 1, "mAcc", "certain", "IoU = TP/(TP+FP+FN) exceeds the class accuracy TP/(TP+FN)"),
    ("MI", 2, "EN", "likely", "information of two sources about the fused image exceeds twice its entropy (in bit)"),
    ("AG", 1 / sqrt(2), "SF", "likely", "the mean gradient sqrt((dx^2+dy^2)/2) exceeds SF/sqrt(2) = the root of its "
     "mean square: the two columns use different differences or no factor 1/2"),
)  # fmt: skip


def check(rows: list[PublishedRow]) -> Iterator[Finding]:
    """Rows in which a metric exceeds what another one allows, and MSE below the square of RMSE."""
    for block, lines in grid(rows).items():
        for method, cells in lines.items():
            for lesser, factor, greater, sure, why in BOUNDS:
                for column, row in cells.items():
                    other = cells.get(column.removesuffix(lesser) + greater) if row.metric == lesser else None
                    if other is not None and cut(row).low > Fraction(factor) * cut(other).high * _unit(row, other):
                        yield Finding(
                            "relation", sure, row.protocol, block, method, column, row.printed,
                            f"at most {factor * float(other.printed):.4g} from {greater} {other.printed}", why,
                        )  # fmt: skip
            mse, rmse = cells.get("MSE"), cells.get("RMSE")
            if mse is not None and rmse is not None and cut(rmse).low > 0 and cut(rmse).low ** 2 > cut(mse).high:
                yield Finding(
                    "relation", "certain", mse.protocol, block, method, "MSE", mse.printed,
                    f"at least {float(rmse.printed) ** 2:.4g} from RMSE {rmse.printed}",
                    "a mean of squares is below the square of the mean: the two columns are of other images or units",
                )  # fmt: skip


def _unit(row: PublishedRow, other: PublishedRow) -> int:
    """100 where one column is in percent and the other a fraction."""
    return 100 if float(row.printed) > 1 >= float(other.printed) and row.metric in ("IoU", "mIoU") else 1
