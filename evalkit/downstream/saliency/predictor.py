"""Networks that predict saliency maps, and what they cost. Needs PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from evalkit.errors import EvalkitError
from evalkit.methods.complexity import complexity
from evalkit.methods.fusers import Fuser
from evalkit.methods.network_fuser import NetworkFuser
from evalkit.methods.networks.smrnet import SALIENCY_SIZE
from evalkit.methods.saliency.registry import SALIENCY_SYSTEMS
from evalkit.protocols.plan import Row, Settings
from evalkit.protocols.schema import Protocol, of_paper
from evalkit.protocols.training import fuser_of
from evalkit.training.find_recipe import label
from evalkit.training.papers.smrnet import detector_cost, inside, saliency_method
from evalkit.training.recipe import Recipe
from evalkit.training.state import read_recipe
from evalkit.training.trained import check_size, trained_method


def predictor(method: str, weights: Path, protocol: Protocol, settings: Settings) -> Row:
    """The row with the network whose weights lie there, or why there is none: damaged, or of another network.

    Args:
        method: the row's name: the paper's network, an ablation of it, or a system that evalkit trains.
        weights: a safetensors file.
        protocol: whose network, or ablation of it, the weights have to be of.
        settings: the run's device.
    """
    if not of_paper(method, protocol):
        return _of_system(method, weights, settings)
    variant = protocol.ablations.get(method, "")
    try:
        saved = read_recipe(weights)
        recipe = saved[0] if saved else None
        if recipe is None or (recipe.method, recipe.variant) != (protocol.paper, variant):
            network_name = f"{protocol.paper} {variant}".strip()
            return Row(method, reason=f"{weights} has not the weights of {network_name} as `evalkit train` writes them")
        network = saliency_method(recipe)
        check_size(weights, network.build, inside)
        fuser = fuser_of(method, network, weights, replace(settings, recolour=False))
    except EvalkitError as error:
        return Row(method, reason=str(error))
    return Row(method, "checkpoint", fuser, recipe=label(recipe))


def _of_system(method: str, weights: Path, settings: Settings) -> Row:
    try:
        network = trained_method(weights, method)
        saved = read_recipe(weights)
        if network is None or saved is None:
            return Row(method, reason=f"{weights} has not the weights of {method} as `evalkit train` writes them")
        fuser = fuser_of(method, network, weights, replace(settings, recolour=False))
    except EvalkitError as error:
        return Row(method, reason=str(error))
    return Row(method, "checkpoint", fuser, recipe=label(saved[0]))


def system_multiply_adds(method: str) -> tuple[float, int]:
    """10^9 multiply-adds of a system's published network for a pair, and the side of the pair that it is counted for.

    Args:
        method: a registered system that is a network.
    """
    system = SALIENCY_SYSTEMS[method]
    assert system.network is not None
    side = system.card.size or SALIENCY_SIZE
    return complexity(system.network(), side, side).multiply_adds / 1e9, side


def multiply_adds(recipe: Recipe, fuser: Fuser | None) -> tuple[float, Recipe]:
    """10^9 multiply-adds for three images of 352x352, of the row's own network where it has one, and its recipe."""
    if isinstance(fuser, NetworkFuser):
        saved = read_recipe(fuser.files[0])
        assert saved is not None
        recipe = saved[0]
    return detector_cost(recipe).multiply_adds / 1e9, recipe
