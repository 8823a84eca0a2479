"""Learning rates as functions of how far a part's training has come."""

from __future__ import annotations

import math

from evalkit.training.recipe import Optimiser


def rate(optimiser: Optimiser, step: int, steps: int, epoch: int, drops: int = 0) -> float:
    """The learning rate of one step. Polynomial and cosine go over the steps after the warm-up.

    Args:
        optimiser: base rate and schedule.
        step, steps: steps that this part has made, and will have made in all.
        epoch: epochs that this part has completed.
        drops: plateaus met so far.
    """
    base, schedule = optimiser.lr, optimiser.schedule
    step += schedule.first
    warmup = schedule.warmup * steps if schedule.warmup < 1 else schedule.warmup
    if step < warmup:
        done = step / warmup
        if schedule.geometric:
            return base * schedule.start ** (1 - done)
        return base * (schedule.start + (1 - schedule.start) * done)
    done = min((step - warmup) / max(steps - warmup, 1), 1)
    if schedule.kind == "step":
        factor = schedule.factor ** (epoch // schedule.every)
    elif schedule.kind == "poly":
        factor = (1 - done) ** schedule.power
    elif schedule.kind == "cosine":
        factor = schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * done))
    elif schedule.kind == "plateau":
        factor = schedule.factor**drops
    else:
        factor = 1.0
    return max(base * factor, schedule.floor)


def plateaus(losses: list[float], patience: int, threshold: float = 1e-4) -> int:
    """How often the loss stayed without progress for more than `patience` epochs in a row.

    Progress is a loss below the best one by more than `threshold` of it; after a plateau the count begins anew.

    Args:
        losses: of one epoch each.
        patience: epochs.
        threshold: share of the best loss by which one has to be lower.
    """
    best, waiting, count = math.inf, 0, 0
    for loss in losses:
        if loss < best * (1 - threshold):
            best, waiting = loss, 0
        else:
            waiting += 1
        if waiting > patience:
            count, waiting = count + 1, 0
    return count
