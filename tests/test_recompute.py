"""Activations that are computed again: the gradients stay the same, the memory does not."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from evalkit.errors import DataError  # noqa: E402
from evalkit.methods.memory import MemoryCounter  # noqa: E402
from evalkit.training.data import Batch  # noqa: E402
from evalkit.training.find_recipe import load_recipe  # noqa: E402
from evalkit.training.recipe import Recipe  # noqa: E402
from evalkit.training.recompute import recompute  # noqa: E402
from evalkit.training.system import Moment, System, build_system  # noqa: E402

SYSTEMS = ["TSJNet", "SMFNet", "PSFusion", "S4Fusion"]


def small(method: str, checkpointing: bool, name: str = "small") -> System:
    torch.manual_seed(0)
    recipe = load_recipe(method, name)
    return build_system(recipe.model_copy(update={"checkpointing": checkpointing})).train()


def batch(side: int = 64, count: int = 2) -> Batch:
    random = torch.Generator().manual_seed(1)
    infrared, visible = (torch.rand(count, channels, side, side, generator=random) for channels in (1, 3))
    classes = torch.randint(0, 9, (count, side, side), generator=random)
    return {"infrared": infrared, "visible": visible, "classes": classes, "stems": ["a", "b"]}


def step(system: System, given: Batch) -> tuple[float, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Loss, gradients and buffers after one step."""
    torch.manual_seed(2)  # what is dropped
    total = torch.stack(list(system(given, Moment(system.recipe.stages[-1].name)).values())).sum()
    total.backward()
    gradients = {name: p.grad for name, p in system.network.named_parameters() if p.grad is not None}
    return float(total.detach()), gradients, dict(system.network.named_buffers())


@pytest.mark.parametrize("method", SYSTEMS)
def test_the_gradients_are_the_same(method: str) -> None:
    kept, again = (step(small(method, checkpointing), batch()) for checkpointing in (False, True))
    assert kept[0] == again[0]
    assert kept[1].keys() == again[1].keys()
    for (name, one), other in zip(kept[1].items(), again[1].values(), strict=True):
        assert torch.equal(one, other), name
    for (name, one), other in zip(kept[2].items(), again[2].values(), strict=True):
        assert torch.equal(one, other), f"{name}: a batch counts once"


@pytest.mark.parametrize("method", [name for name in SYSTEMS if name != "TSJNet"])  # which pays a third pass for memory
def test_no_segment_lies_within_another(method: str) -> None:
    system = small(method, False)
    for segment in (module for module in system.network.modules() if isinstance(module, system.segments)):
        assert not any(isinstance(module, system.segments) for module in list(segment.modules())[1:])


def test_names_of_weights_stay() -> None:
    assert small("TSJNet", True).state_dict().keys() == small("TSJNet", False).state_dict().keys()


def test_a_method_without_segments_says_so() -> None:
    recipe = load_recipe("GANMcC", "small")
    with pytest.raises(DataError, match="checkpointing, which GANMcC does not have"):
        build_system(recipe.model_copy(update={"checkpointing": True}))


def held(system: System, given: Batch, mixed: bool = False) -> tuple[int, int]:
    """Bytes after the forward pass of a training step, and the most that it holds, gradients included."""
    with MemoryCounter() as counter:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            terms = system(given, Moment("fuse"))
            total = torch.stack([term.float() for term in terms.values()]).sum()
        after = counter.now
        total.backward()
    return after, counter.peak


def without_critics(recipe: Recipe) -> Recipe:
    data = recipe.data.model_copy(update={"labels": ()})
    return recipe.model_copy(
        update={"loss": dict(recipe.loss) | {"detection": False, "segmentation": False}, "data": data}
    )


def test_less_is_held() -> None:
    (kept, most), (again, most_again) = (held(small("TSJNet", again), batch(32)) for again in (False, True))
    assert again < kept / 3
    assert most_again < most / 2


@pytest.mark.slow
@pytest.mark.parametrize(("mixed", "allowed"), [(False, 15), (True, 8)])
def test_a_step_of_tsjnet_at_full_width_fits(mixed: bool, allowed: int) -> None:
    """On shapes: nothing is computed. Without the critics, whose activations are gone before the first segment's."""
    recipe = without_critics(load_recipe("TSJNet", "paper"))
    assert recipe.checkpointing
    assert recipe.batch == 2
    system = build_system(recipe).train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        images = {"infrared": torch.empty(2, 1, 480, 640), "visible": torch.empty(2, 3, 480, 640)}
        assert held(system, images, mixed)[1] < allowed * 2**30


class Counted(nn.Module):
    """Counts how often it is run."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x.sin()


def test_what_lies_between_is_computed_again() -> None:
    layer = Counted()
    recompute([layer])
    layer(torch.ones(3, requires_grad=True)).sum().backward()
    assert layer.calls == 2
    with torch.no_grad():
        layer(torch.ones(3))
    assert layer.calls == 3
