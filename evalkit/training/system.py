"""What the training loop asks of a method, and where to find it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from torch import Tensor, nn

from evalkit.errors import DataError
from evalkit.methods.checkpoints import State
from evalkit.registry import Registry
from evalkit.training.data import Batch
from evalkit.training.recipe import Recipe
from evalkit.training.recompute import recompute

if TYPE_CHECKING:
    from pathlib import Path

    from evalkit.methods.network import NetworkMethod


class Moment(NamedTuple):  # Fabric's mixed precision passes no frozen dataclass on
    """How far the training is: rounds, epochs and steps are counted from 0, epochs within their stage.

    Attributes:
        step: the steps that what learns here has made before, in all stages and rounds.
    """

    stage: str
    round: int = 0
    epoch: int = 0
    step: int = 0


class System(nn.Module):
    """A network that can be trained by a recipe. A subclass has the method's losses.

    Attributes:
        name: of the method, as its card and its recipes have it.
        network: what learns and what a checkpoint holds. Critics, which only judge, are other attributes.
        noted: values of the last batch for the log that are not a part of the loss.
        segments: the network's modules of these types may be computed again for the gradient (`recompute`).
    """

    name: ClassVar[str]
    segments: ClassVar[tuple[type[nn.Module], ...]] = ()
    network: nn.Module

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.noted: dict[str, Tensor] = {}

    def parts(self) -> Mapping[str, nn.Module]:
        """What has an optimiser of its own; together all that learns."""
        return {"network": self.network}

    def clipped(self, part: str) -> Sequence[nn.Module]:
        """What a part's `clip` limits the gradient of: the norm of each module by itself."""
        return [self.parts()[part]]

    def prepare(self, weights: Path | None) -> None:
        """Load what is pretrained: the recipe's `weights`, from that folder. Called once, before the first step.

        Raises:
            DataError: a file that is missing or of another network.
        """

    def load_critics(self, weights: Path | None) -> None:
        """Load the frozen networks that judge: called once, also by a run that goes on. Raises DataError."""

    def random_critics(self, missing: Collection[str]) -> None:
        """Make critics with random weights, for a trial whose files are missing: the same work, no judgement.

        Args:
            missing: those of the recipe's `weights` whose file is not there.
        """

    def shared(self, batch: Batch) -> Batch:
        """What of the loss depends on all images of a batch, by name, with a first axis of N: computed before the batch
        is divided, and given to `forward` with each part.
        """
        return {}

    def no_decay(self) -> set[str]:
        """Names of the network's parameters that weight decay leaves alone."""
        return set()

    def forward(self, batch: Batch, moment: Moment) -> dict[str, Tensor]:
        """The weighted terms of the loss, by name; their sum is what is minimised."""
        raise NotImplementedError

    @classmethod
    def varied(cls, recipe: Recipe) -> Recipe:
        """The recipe with what its ablation changes in the schedule. Raises UnknownNameError for an unknown variant."""
        build_system(recipe)
        return recipe

    @classmethod
    def method(cls, recipe: Recipe) -> NetworkMethod:
        """The trained network as a fusion method; its `build` gives an untrained one of the recipe's sizes."""
        raise NotImplementedError

    @classmethod
    def fusion_state(cls, state: State) -> State:
        """The part of a checkpoint that `method` needs."""
        return state


SYSTEMS: Registry[type[System]] = Registry("trainable network", "evalkit.training.papers")


def register_system(system: type[System]) -> None:
    """Make a network trainable: the method of the system's name. Raises EvalkitError where the name is taken."""
    SYSTEMS.add(system.name, system)


def system_class(method: str) -> type[System]:
    """The System of a method. Raises UnknownNameError with the nearest ones."""
    return SYSTEMS.find(method)


def build_system(recipe: Recipe) -> System:
    """An untrained system. Raises DataError for options that its network or loss does not have."""
    system = system_class(recipe.method)(recipe)
    if recipe.checkpointing:
        if not system.segments:
            raise DataError(f"the recipe {recipe.name} asks for checkpointing, which {recipe.method} does not have.")
        recompute(module for module in system.network.modules() if isinstance(module, system.segments))
    return system
