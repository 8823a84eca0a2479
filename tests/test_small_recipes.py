"""What the small recipes reach on real pairs that no training saw (minutes each). Prints what docs/training.md quotes:
pytest -m slow -s tests/test_small_recipes.py -k SMFNet
"""

from __future__ import annotations

from pathlib import Path

import pytest
from trained_tno import trained_means

from evalkit.training.find_recipe import load_recipe
from evalkit.training.loop import train
from evalkit.training.trained import training_scenes

MEDICAL = "MRI-PET"  # what the network is for; it learns from street scenes all the same


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "dataset"),
    [
        *((method, "TNO") for method in ("SMFNet", "PSFusion", "S4Fusion", "TSJNet", "IGNet", "DeFusion")),
        ("GeSeNet", MEDICAL),
        ("MsgFusion", MEDICAL),
    ],
)
def test_the_small_recipe_learns_and_fuses_other_pairs_better_than_the_average(
    method: str, dataset: str, shared: Path, tmp_path: Path
) -> None:
    recipe = load_recipe(method, "small")
    root = training_scenes(tmp_path / "scenes") if "samples" in recipe.data.datasets else shared / "data"
    result = train(recipe, root, tmp_path / "run", device="cpu", tell=print)
    last = recipe.stages[-1].name
    losses = [loss for _, stage, loss in result.losses if stage == last]
    print(f"{method}: {result.steps} steps, {result.seconds:.0f} s, {last} loss {losses[0]:.3f} to {losses[-1]:.3f}")
    assert losses[-1] < losses[0]
    means = trained_means(method, result.weights, shared / "data", dataset)
    print(means)
    assert [name for name, value in means["average"].items() if means["trained"][name] <= value] == []
