"""Tables of what networks cost: parameters, multiply-adds, seconds per image."""

from __future__ import annotations

import importlib
import importlib.util

from evalkit.leaderboards.table import Cell, Column, agreement
from evalkit.methods.registry import MethodCard, method_cards
from evalkit.metrics.parallel import default_workers
from evalkit.protocols.plan import Settings
from evalkit.protocols.schema import Protocol, Published

COLUMNS = {"FLOPs": "G multiply-adds", "Params": "K", "Time": "s"}


def columns(chosen: Protocol) -> list[Column]:
    """The columns of a cost table; less is better in all of them."""
    return [Column(f"{name} ({COLUMNS[name]})", "lower", chosen.convention) for name in chosen.metrics]


def cost_cells(
    chosen: Protocol, dataset: str, methods: list[str], published: Published, settings: Settings
) -> list[Cell]:
    """The rows of a cost table: networks that evalkit has code for, weights not needed."""
    cells = []
    for method in settings.progress(methods, len(methods), "count"):
        card = method_cards().get(method)
        values, reason = costs(card, settings) if card else ({}, "unknown to evalkit")
        for name in chosen.metrics:
            printed = published.get((dataset, method, name))
            text = printed.printed if printed else None
            cells.append(_cell(dataset, method, name, values.get(name), text, reason, settings))
    return cells


def costs(card: MethodCard, settings: Settings) -> tuple[dict[str, float], str]:
    """Column -> value, or the reason why there is none."""
    if not card.module:
        return {}, "evalkit has no code for this network"
    if importlib.util.find_spec("torch") is None:
        return {}, "needs PyTorch: pip install 'evalkit[networks]'"
    from evalkit.methods.complexity import complexity, seconds_per_image
    from evalkit.methods.fuse import choose_device

    method = importlib.import_module(f"evalkit.methods.networks.{card.module}").METHODS[card.name]
    counted = complexity(method)
    seconds = seconds_per_image(method, choose_device(settings.device), settings.workers or default_workers())
    return {
        "FLOPs": counted.multiply_adds / 1e9,
        "Params": counted.parameters_by_call / 1e3,
        "Time": seconds,
    }, ""


def _cell(
    dataset: str, method: str, name: str, value: float | None, printed: str | None, reason: str, settings: Settings
) -> Cell:
    column = f"{name} ({COLUMNS[name]})"
    if value is None:
        return Cell(dataset, method, column, None, printed, 0, "hole", reason)
    if name == "Time":
        from evalkit.methods.fuse import choose_device

        device = choose_device(settings.device)
        where = device if device != "cpu" else f"CPU, {settings.workers or default_workers()} threads"
        return Cell(
            dataset, method, column, value, printed, 1, "other data", f"measured on {where}, the paper's on a GPU"
        )
    status = agreement(value, printed) if printed is not None else "unpublished"
    return Cell(dataset, method, column, value, printed, 1, status)
