"""Training of SMFNet: its stages, and each row of its ablation."""

from __future__ import annotations

import pytest
import torch

from evalkit.training.find_recipe import load_recipe
from evalkit.training.papers.smfnet import ABLATIONS
from evalkit.training.recipe import Recipe
from evalkit.training.system import Moment, build_system

SIZES = {"width": 8, "heads": 2, "base_blocks": 1, "bottleneck": 2, "dilations": [1, 2, 3]}


def tiny(variant: str) -> Recipe:
    return load_recipe("SMFNet", "small", variant).model_copy(update={"network": SIZES})


def shapes(recipe: Recipe) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in build_system(recipe).network.named_parameters()}


@pytest.mark.parametrize("variant", ABLATIONS)
def test_every_ablation_takes_a_step_in_each_stage(variant: str) -> None:
    recipe = tiny(variant)
    torch.manual_seed(0)
    system = build_system(recipe)
    batch = {"infrared": torch.rand(2, 1, 24, 24), "visible": torch.rand(2, 3, 24, 24)}
    for stage in (stage for stage in recipe.stages if stage.epochs):
        system.zero_grad()
        terms = system(batch, Moment(stage.name))
        total = torch.stack(list(terms.values())).sum()
        assert torch.isfinite(total)
        total.backward()
        for name in stage.parts or system.parts():
            if name in system.parts():
                gradients = [p.grad for p in system.parts()[name].parameters() if p.grad is not None]
                assert gradients
                assert any(g.abs().sum() > 0 for g in gradients), name


def test_each_row_changes_what_its_name_says() -> None:
    full = shapes(tiny("AE8"))
    same_network = {"AE4", "AE5", "AE6", "AE7"}
    for variant in ABLATIONS:
        if variant in same_network | {"AE8"}:
            assert shapes(tiny(variant)) == full, variant
    without = {
        v: {n.split(".")[0] + "." + n.split(".")[1] for n in full if n not in shapes(tiny(v))} for v in ABLATIONS
    }
    assert without["AE1"] == {"encoder.detail"}
    assert without["AE2"] == {"encoder.base"}
    assert {name.split(".")[0] for name in without["AE3"]} == {"graph"}


def test_rows_of_the_loss_and_of_the_schedule() -> None:
    torch.manual_seed(0)
    batch = {"infrared": torch.rand(2, 1, 24, 24), "visible": torch.rand(2, 3, 24, 24)}
    terms = {v: set(build_system(tiny(v))(batch, Moment("reconstruct"))) for v in ("AE5", "AE8")}
    assert terms["AE8"] - terms["AE5"] == {"semantic"}
    assert [stage.epochs for stage in tiny("AE7").stages] == [0, sum(s.epochs for s in tiny("AE8").stages)]
    assert build_system(tiny("AE6")).loss.graph_in_stage_one
    assert build_system(tiny("AE4")).network.options.swap_fusion


def test_the_hour_recipe_has_the_published_width() -> None:
    """Its network and parts are those of `paper`, its stages as long to each other as published."""
    hour, paper = (load_recipe("SMFNet", name) for name in ("hour", "paper"))
    assert hour.network == paper.network == {}
    for one, other in zip(hour.stages, paper.stages, strict=True):
        assert (one.name, one.parts) == (other.name, other.parts)
    first, second = (stage.epochs for stage in hour.stages)
    assert first / second == paper.stages[0].epochs / paper.stages[1].epochs
    assert hour.data == paper.data
