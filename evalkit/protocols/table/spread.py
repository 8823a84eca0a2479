"""Standard deviations over the images, from the scores per image that a run wrote."""

from __future__ import annotations

import math
import statistics

from evalkit.errors import DataError, EvalkitError
from evalkit.files.names import file_name
from evalkit.protocols.table.cells import TableContent
from evalkit.records.per_image import read_per_image

Key = tuple[str, str, str]  # data set, method, metric
NOTE = "±: standard deviation over the images (n - 1)"


def spreads_of(table: TableContent) -> dict[Key, float]:
    """Data set, method, metric -> sample standard deviation over the images, of the values that are means over them.

    Raises:
        EvalkitError: the table is of no run, or its run has no scores per image.
        DataError: a score file is damaged, or is not what the table's means come from.
    """
    if table.out is None:
        raise EvalkitError("std needs the scores per image of a run, and this table is not read from a run's folder.")
    spreads: dict[Key, float] = {}
    for dataset in table.datasets:
        for method in table.methods(dataset):
            path = table.out / "scores" / file_name(dataset) / f"{file_name(method)}.csv"
            if not path.is_file():
                continue
            scores = read_per_image(path)
            for cell in table.cells:
                if (cell.dataset, cell.method) != (dataset, method) or cell.metric not in scores.metrics:
                    continue
                values = [value for value in scores.column(cell.metric).values() if value is not None]
                if cell.value is None or len(values) < 2:
                    continue
                if not math.isclose(math.fsum(values) / len(values), cell.value, rel_tol=1e-9, abs_tol=1e-12):
                    cure = "Run `evalkit reproduce` into that folder again."
                    raise DataError(f"{path}: the mean of {cell.metric} is not the table's {cell.value!r}. {cure}")
                spreads[dataset, method, cell.metric] = statistics.stdev(values)
    if not spreads:
        raise EvalkitError(
            f"std: {table.out} holds no scores of two images or more (scores/<data set>/<method>.csv) to take it from."
        )
    return spreads
