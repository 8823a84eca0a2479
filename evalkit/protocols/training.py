"""Rows that have no fused images and no weights, filled by training the method's network."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from evalkit.data.hashes import file_hash
from evalkit.data.pairs import DataRoot
from evalkit.errors import EvalkitError, OutputError, UnknownNameError
from evalkit.methods.fusers import choose_device
from evalkit.methods.network_fuser import NetworkFuser
from evalkit.protocols.plan import Row, Settings, file_name
from evalkit.protocols.schema import Protocol
from evalkit.training.find_recipe import label, load_recipe, recipes, trainable

if TYPE_CHECKING:
    from evalkit.methods.network import NetworkMethod
    from evalkit.training.elsewhere import Training
    from evalkit.training.loop import TrainingResult
    from evalkit.training.recipe import Recipe
    from evalkit.training.trial import StageTrial


def how_to_train(protocol: Protocol, method: str) -> str:
    """How a row could be trained: by the recipe of its network, or of the network it is an ablation of; or nothing."""
    variant = protocol.ablations.get(method, "")
    network = network_of(protocol, method)
    if network not in trainable():
        return ""
    named = f" --variant {shlex.quote(variant)}" if variant else ""
    return f"or train it with `evalkit train {network} --recipe paper{named}` and fuse with its weights"


def network_of(protocol: Protocol, method: str) -> str:
    """The network that is trained to fill a row: of an ablation, the paper's."""
    return protocol.paper if protocol.ablations.get(method) else protocol.method_of(method)


def can_train() -> bool:
    """Whether what training needs is installed."""
    return importlib.util.find_spec("lightning_fabric") is not None


def wants_training(row: Row, protocol: Protocol, settings: Settings) -> bool:
    """Whether the run was asked to train, and this row is a missing value that training can fill.

    Args:
        row: as planned.
        protocol: whose ablations are trained by the recipe of the paper's network.
        settings: the run's.
    """
    if not ((settings.train or row.train) and row.reason and can_train()):
        return False
    return network_of(protocol, row.method) in trainable()


def train_row(row: Row, protocol: Protocol, settings: Settings, root: DataRoot, sample: bool) -> Row:
    """The row with a trained network, or a missing value that says why training failed.

    Args:
        row: the missing value to be filled.
        protocol: which names the row's ablation, if it is one.
        settings: the run's: recipe, device, and where evalkit writes.
        root: the data root.
        sample: learn from generated scenes.

    Raises:
        UnknownNameError: no such recipe.
        OutputError: a file cannot be written.
    """
    trained_network = train_network(row.method, protocol, settings, root, sample)
    if isinstance(trained_network, str):
        return Row(row.method, reason=trained_network)
    recipe, result = trained_network
    method = _training().trained.trained_method(result.weights, recipe.method)
    assert method is not None
    fuser = fuser_of(row.method, method, result.weights, settings)
    return Row(row.method, "trained", fuser, recipe=label(recipe), pretrained=result.pretrained)


def train_network(
    method: str, protocol: Protocol, settings: Settings, root: DataRoot, sample: bool
) -> tuple[Recipe, TrainingResult] | str:
    """The row's network, trained, or the reason why it cannot be.

    It is trained once for all data sets of the run, in OUT/training/<method>; an interrupted training goes on. In a
    sample run, and where the recipe learns from generated scenes, these are drawn in OUT.

    Args:
        method: the row's name.
        protocol: which names the row's ablation, if it is one.
        settings: the run's; `trained` remembers what this run has trained.
        root: the data root; not used where generated scenes are learned from.
        sample: learn from generated scenes; with recipe small by the network's recipe "sample" where there is one.

    Returns:
        The recipe as it was trained by and the result, or the reason.

    Raises:
        UnknownNameError: no such recipe.
        OutputError: a file cannot be written.
    """
    if method in settings.trained:
        return settings.trained[method]
    planned = _plan_training(method, protocol, settings, root, sample)
    if isinstance(planned, str):
        return planned
    (settings.trained[method],) = _train([planned], settings)
    return settings.trained[method]


def train_ahead(methods: Iterable[str], protocol: Protocol, settings: Settings, root: DataRoot, sample: bool) -> None:
    """On a cluster, train the networks of all these rows side by side; `train_network` then has them at hand.

    Here, where one training follows the other, nothing is done.

    Args:
        methods: the names of the rows.
        protocol, settings, root, sample: as in `train_network`, which says what is raised.
    """
    if not settings.engine.remote:
        return
    planned = {}
    for method in methods:
        if method not in settings.trained:
            training = _plan_training(method, protocol, settings, root, sample)
            if not isinstance(training, str):
                planned[method] = training
    if planned:  # else PyTorch, which an installation need not have, is not asked for
        settings.trained.update(zip(planned, _train(list(planned.values()), settings), strict=True))


def _plan_training(method: str, protocol: Protocol, settings: Settings, root: DataRoot, sample: bool) -> Training | str:
    """What is trained for a row, or the reason why nothing can be. Raises UnknownNameError: no such recipe."""
    trained = _training().trained
    variant = protocol.ablations.get(method, "")
    network = network_of(protocol, method)
    quick = sample and settings.recipe == "small" and f"{network}-sample" in recipes()
    name = "sample" if quick else settings.recipe
    load_recipe(network, name)  # a recipe that there is not ends the run; one that cannot leave something out does not
    try:
        recipe = load_recipe(network, name, variant)
    except UnknownNameError:
        raise
    except EvalkitError as error:
        return f"cannot be trained: {error}"
    if sample or set(recipe.data.datasets) == {"samples"}:
        recipe = trained.on_samples(recipe)
        root = trained.training_scenes(settings.out / "training" / "scenes", settings.progress)
    return recipe, root, settings.out / "training" / file_name(method)


def _train(trainings: Sequence[Training], settings: Settings) -> Iterator[tuple[Recipe, TrainingResult] | str]:
    """Recipe and result of each training, in order, or why it failed. Raises what no other row would be spared."""
    results = _training().elsewhere.train_each(
        trainings,
        settings.engine,
        settings.progress,
        weights=settings.checkpoints,
        device=settings.device,
        accumulate=settings.accumulate,
        existing="replace" if settings.existing == "replace" else "reuse",
    )
    for (recipe, *_), result in zip(trainings, results, strict=True):
        if isinstance(result, UnknownNameError | OutputError):
            raise result
        yield f"cannot be trained: {result}" if isinstance(result, EvalkitError) else (recipe, result)


def try_rows(
    methods: Iterable[str], protocol: Protocol, settings: Settings, sample: bool, steps: int, networks: Sequence[str]
) -> list[StageTrial]:
    """Some steps of every network that a row can be trained with.

    Args:
        methods: the rows.
        protocol: which names their ablations.
        settings: the run's: recipe, weights, device.
        sample: learn from generated scenes.
        steps: of every stage.
        networks: those of the rows that are tried; all when none is named.

    Raises:
        UnknownNameError: no such recipe. EvalkitError: data or weights are not as they must be.
    """
    asked = {network.casefold() for network in networks}
    trials = []
    for method in methods:
        network = network_of(protocol, method)
        if network not in trainable() or (asked and method.casefold() not in asked):
            continue
        recipe = load_recipe(network, settings.recipe, protocol.ablations.get(method, ""))
        trials += _training().try_recipe.try_recipe(
            recipe,
            None if sample else settings.root,
            steps,
            weights=settings.checkpoints,
            device=settings.device,
            accumulate=settings.accumulate,
            progress=settings.progress,
        )
    return trials


def fuser_of(name: str, method: NetworkMethod, weights: Path, settings: Settings) -> NetworkFuser:
    """A network with weights of evalkit's own, ready to run.

    Args:
        name: the row's.
        method: how the network is built and run.
        weights: the file, a safetensors file that evalkit wrote.
        settings: the run's device and recolouring; with remote workers the device is theirs.
    """
    hashes = {weights.name: file_hash(weights)}
    device, elsewhere = device_here(settings), settings.device
    return NetworkFuser(name, method, hashes, [weights], device, settings.recolour, elsewhere, settings.arithmetic)


def device_here(settings: Settings) -> str:
    """Where this process computes a network: with remote workers the device is theirs. Raises EvalkitError."""
    return "cpu" if settings.engine.remote else choose_device(settings.device)


class _Modules(NamedTuple):
    elsewhere: ModuleType
    trained: ModuleType
    try_recipe: ModuleType


def _training() -> _Modules:
    from evalkit.training import elsewhere, trained, try_recipe  # PyTorch

    return _Modules(elsewhere, trained, try_recipe)
