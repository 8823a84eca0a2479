"""Mixed precision: half for the network, float32 for what it learns from and for the losses."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

from torch import Tensor  # noqa: E402

from evalkit.data.samples.samples import write_scenes  # noqa: E402
from evalkit.training.find_recipe import load_recipe  # noqa: E402
from evalkit.training.loop import start_fabric  # noqa: E402
from evalkit.training.papers.smfnet import stage_one_terms  # noqa: E402
from evalkit.training.precision import full_precision  # noqa: E402
from evalkit.training.terms import CommonWeights, common_terms  # noqa: E402
from evalkit.training.trained import on_samples  # noqa: E402
from evalkit.training.try_recipe import TrialRun, try_recipe  # noqa: E402


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, 8, 3, 160, 128)
    return root


def test_losses_in_mixed_precision_are_those_of_float32() -> None:
    torch.manual_seed(0)
    infrared, visible = torch.rand(2, 1, 40, 40), torch.rand(2, 1, 40, 40)
    fused = (0.9 + 0.02 * torch.rand(2, 1, 40, 40)).bfloat16()  # bright and flat: all of its variance is lost in half
    expected = common_terms(fused.float(), infrared, visible, CommonWeights())
    with torch.autocast("cpu", torch.bfloat16):
        given = common_terms(fused, infrared, visible, CommonWeights())
        assert (infrared @ visible).dtype == torch.bfloat16  # elsewhere it is on
    for name, value in expected.items():
        assert given[name].dtype == torch.float32
        assert torch.equal(given[name], value)


def test_all_that_a_loss_is_given_becomes_float32() -> None:
    class Pair(NamedTuple):
        first: Tensor
        second: list[Tensor]

    @full_precision
    def types(pair: Pair, more: dict[str, Tensor], count: int) -> list[torch.dtype]:
        assert isinstance(pair, Pair)
        assert count == 3
        return [pair.first.dtype, pair.second[0].dtype, more["a"].dtype, more["b"].dtype]

    half, wide, number = torch.zeros(1, dtype=torch.bfloat16), torch.zeros(1, dtype=torch.float64), torch.tensor([1])
    given = types(Pair(half, [half.half()]), {"a": wide, "b": number}, count=3)
    assert given == [torch.float32, torch.float32, torch.float64, torch.int64]
    assert stage_one_terms.__doc__  # a decorated loss keeps its own


def test_the_batch_is_not_rounded(scenes: Path, tmp_path: Path) -> None:
    recipe = on_samples(load_recipe("IGNet", "small")).model_copy(update={"precision": "bf16-mixed"})
    run = TrialRun(recipe, start_fabric("cpu", 1, "bf16-mixed"), scenes, tmp_path, None, 0, lambda _: None, share=1)
    seen: list[torch.dtype] = []
    run.system.register_forward_pre_hook(lambda _, given: seen.extend((given[0]["infrared"].dtype,)))
    run.system.network.register_forward_hook(lambda _, given, output: seen.append(output.dtype))
    _, make = next(iter(run.trials(1)))
    make()
    assert seen == [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("method", ["SMFNet", "IGNet", "GeSeNet", "S4Fusion", "TSJNet"])
def test_terms_in_mixed_precision_are_near_those_in_full(scenes: Path, method: str) -> None:
    """Of every stage: with the losses in half SMFNet's SSIM was -6.9 for 2.2, IGNet's and GeSeNet's not a number."""
    recipe = on_samples(load_recipe(method, "small")).model_copy(update={"batch": 2, "steps": 2})
    full, mixed = (
        try_recipe(recipe.model_copy(update={"precision": precision}), scenes, 1, device="cpu")
        for precision in ("32-true", "bf16-mixed")
    )
    for one, other in zip(full, mixed, strict=True):
        assert one.losses[0].keys() == other.losses[0].keys()
        assert other.losses[0] == pytest.approx(one.losses[0], rel=0.05, abs=2e-3)
