"""Trainings as units of work of an engine: each worker of a cluster trains a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from evalkit.data.pairs import DataRoot
from evalkit.engine.base import Engine
from evalkit.errors import EvalkitError
from evalkit.training import loop
from evalkit.training.loop import TrainingResult
from evalkit.training.recipe import Recipe

Training = tuple[Recipe, DataRoot, Path]  # the recipe, where its data sets are, and the folder for the weights


def train_each(
    trainings: Sequence[Training],
    engine: Engine,
    progress: Callable[[Iterable, int, str], Iterable] = lambda items, total, text: items,
    **options: Any,
) -> Iterator[TrainingResult | EvalkitError]:
    """The result of every training, in order, or why it failed: another one is not held up by it.

    On the processes of this machine one follows the other, and the steps are shown; the workers of a cluster train
    one each at the same time. A training that another worker began goes on where it stopped.

    Args:
        trainings: each with a folder of its own; absolute paths where the engine is remote.
        engine: where they are trained.
        progress: wraps the steps of a training here, or the trainings of a cluster.
        options: of `evalkit.training.loop.train`.

    Raises:
        EvalkitError: the engine cannot go on, see `Engine.map`.
    """
    if not engine.remote:
        yield from map(partial(_attempt, partial(loop.train, progress=progress, **options)), trainings)
        return
    results = engine.map(partial(_attempt, partial(loop.train, **options)), trainings, gpu=True, limited=False)
    yield from progress(results, len(trainings), "train")


def _attempt(learn: Callable[..., TrainingResult], training: Training) -> TrainingResult | EvalkitError:
    try:
        return learn(*training)
    except EvalkitError as error:
        return error
