"""`evalkit reproduce --steps N`: some steps of every training that a table asks for, measured; nothing is kept."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from evalkit.errors import EvalkitError
from evalkit.protocols.plan import (
    Progress,
    Settings,
    find_checkpoints,
    find_data_root,
    place_data,
    plan_datasets,
    plan_methods,
)
from evalkit.protocols.run import recipe_of
from evalkit.protocols.schema import protocol as load_protocol
from evalkit.protocols.tasks import Job, tasks_of

if TYPE_CHECKING:
    from evalkit.training.trial import StageTrial


def try_protocol(
    name: str,
    data_root: str | os.PathLike[str] | Iterable[Path] | None,
    steps: int,
    *,
    sample: bool = False,
    checkpoints: str | os.PathLike[str] | None = None,
    device: str = "auto",
    methods: Iterable[str] | None = None,
    datasets: Iterable[str] | None = None,
    networks: Sequence[str] = (),
    recipe: str = "",
    accumulate: int = 1,
    progress: Progress = lambda items, total, text: items,
) -> list[StageTrial]:
    """Some steps of the trainings of a table: full width, full crop, full batch, the published rates.

    Networks that learn from fused images are tried on the visible ones of the first data set with labels. Everything is
    written to a temporary folder, which is removed.

    Args:
        name: the protocol, or the path of a YAML file.
        data_root: folder with the data sets, or with a part of them; the protocol's own when not given.
        steps: of every stage.
        sample: on generated scenes.
        checkpoints: folder with pretrained weights; random ones take the place of missing ones.
        device: auto, cpu, cuda or cuda:N.
        methods: rows; of fused images those whose networks are tried.
        datasets: data sets; the protocol's when not given.
        networks: the networks that are tried; all of the recipe when none is named.
        recipe: small, paper or a YAML file; the protocol's own, or small, when not given.
        accumulate: parts that a batch is computed in.
        progress: wraps the steps, called with (items, count, text).

    Raises:
        UnknownNameError: protocol, row, data set or recipe, with the nearest names.
        EvalkitError: nothing is trained for this table; data, weights or packages are not as they must be.
        MemoryShortError: a step that does not fit into the memory.
    """
    protocol, root = load_protocol(name), None
    if not sample:
        protocol, root = place_data(protocol, data_root)
    tasks = tasks_of(protocol)
    needs = tasks[0].needs
    uses = plan_datasets(protocol, datasets, sample, needs.labels)
    rows = plan_methods(protocol, methods, None, None, needs.labels is not None, uses)
    if not sample and root is None and not (uses and all(use.inline for use in uses.values())):
        find_data_root(None, sample=True)  # says what is missing
    weights = find_checkpoints(checkpoints or protocol.place("checkpoints"))
    with TemporaryDirectory(prefix="evalkit-steps-") as folder:
        settings = Settings(
            Path(folder),
            checkpoints=weights,
            device=device,
            progress=progress,
            recipe=recipe or recipe_of(protocol),
            root=root,
            accumulate=accumulate,
        )
        job = Job(protocol, uses, rows, {}, root, sample, settings)
        trials = [trial for task in tasks for trial in task.trial(job, steps, networks)]
    if not trials:
        what = f"none of {', '.join(networks)}" if networks else "nothing"
        raise EvalkitError(f"{what} is trained for {protocol.name} by the recipe {settings.recipe_name}.")
    return trials
