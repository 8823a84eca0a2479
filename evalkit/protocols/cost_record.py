"""The record of what a network costs: one row, for one pair of 640x480."""

from __future__ import annotations

from collections.abc import Mapping

from evalkit.metrics.evaluate import Scores
from evalkit.protocols.plan import file_name
from evalkit.protocols.summary import now
from evalkit.protocols.tasks import Job
from evalkit.provenance import provenance
from evalkit.records.per_image import read_per_image
from evalkit.records.record import Record, save
from evalkit.records.store import ScoreFile

PAIR = "640x480"


def save_cost(job: Job, dataset: str, method: str, values: Mapping[str, float], started: str) -> None:
    """Write the record of one network, and its one row of scores. Only of what can be counted again: no times.

    Args:
        dataset: under which the table prints it; the values do not depend on its images, so it has no content hash.
        values: column -> value, in the units of the table.

    Raises:
        OutputError: a file cannot be written.
    """
    settings = job.settings
    file = ScoreFile(settings.scores_file(dataset, method), values)
    file.finish({PAIR: Scores(values)}, {PAIR: ""})
    record = Record(
        status="complete",
        protocol={"name": job.chosen.name, "hash": job.chosen.hash},
        method={"name": method, "filled_from": "code"},
        dataset={"name": dataset, "split": None, "layout": "", "pairs": 1, "expected": 1},
        convention=job.chosen.convention,
        metrics=list(values),
        images=1,
        scores=dict(values),
        holes={},
        failures=[],
        scores_hash=read_per_image(file.path).hash(),
        provenance=provenance(),
        started=started,
        finished=now(),
    )
    save(record, settings.out / "records" / f"{file_name(dataset)}__{file_name(method)}.json")
