"""The two forms in which Mix Transformer's ImageNet weights are published: SegFormer's authors' and OpenMMLab's.

OpenMMLab's has query, key and value of an attention in one tensor and 1x1 convolutions in place of linear layers.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from evalkit.errors import CheckpointError
from evalkit.methods.checkpoints import State

WITHIN = {  # a block's layers: the authors' name -> OpenMMLab's
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.proj": "attn.attn.out_proj",
    "attn.sr": "attn.sr",
    "attn.norm": "attn.norm",
    "mlp.fc1": "ffn.layers.0",
    "mlp.dwconv.dwconv": "ffn.layers.1",
    "mlp.fc2": "ffn.layers.4",
}
LINEAR = ("mlp.fc1", "mlp.fc2")  # with OpenMMLab convolutions
AUTHORS_FIRST, OPENMMLAB_FIRST = "patch_embed1.proj.weight", "layers.0.0.projection.weight"


def to_openmmlab(state: State) -> State:
    """Tensors under the authors' names as OpenMMLab has them; others (the classifier's) are left out."""
    own: State = {}
    for key, value in state.items():
        if match := re.fullmatch(r"patch_embed(\d)\.(proj|norm)\.(\w+)", key):
            layer = "projection" if match[2] == "proj" else "norm"
            own[f"layers.{int(match[1]) - 1}.0.{layer}.{match[3]}"] = value
        elif match := re.fullmatch(r"norm(\d)\.(\w+)", key):
            own[f"layers.{int(match[1]) - 1}.2.{match[2]}"] = value
        elif match := re.fullmatch(r"block(\d)\.(\d+)\.(.+)\.(\w+)", key):
            place = f"layers.{int(match[1]) - 1}.1.{match[2]}"
            if match[3] in WITHIN:
                value = value[..., None, None] if match[3] in LINEAR and match[4] == "weight" else value
                own[f"{place}.{WITHIN[match[3]]}.{match[4]}"] = value
            elif match[3] == "attn.q" and (pair := state.get(key.replace(".q.", ".kv."))) is not None:
                own[f"{place}.attn.attn.in_proj_{match[4]}"] = torch.cat([value, pair])
    return own


def to_authors(state: State, path: Path) -> State:
    """Tensors under OpenMMLab's names as the authors have them. Raises CheckpointError for tensors of other shapes."""
    names = {theirs: ours for ours, theirs in WITHIN.items()}
    own: State = {}
    for key, value in state.items():
        if match := re.fullmatch(r"layers\.(\d)\.0\.(projection|norm)\.(\w+)", key):
            layer = "proj" if match[2] == "projection" else "norm"
            own[f"patch_embed{int(match[1]) + 1}.{layer}.{match[3]}"] = value
        elif match := re.fullmatch(r"layers\.(\d)\.2\.(\w+)", key):
            own[f"norm{int(match[1]) + 1}.{match[2]}"] = value
        elif match := re.fullmatch(r"layers\.(\d)\.1\.(\d+)\.attn\.attn\.in_proj_(\w+)", key):
            if len(value) % 3:
                raise CheckpointError(
                    f"the checkpoint {path} is not of a Mix Transformer: {key} is not of an attention."
                )
            place = f"block{int(match[1]) + 1}.{match[2]}.attn"
            own[f"{place}.q.{match[3]}"], own[f"{place}.kv.{match[3]}"] = value.split(
                [len(value) // 3, len(value) // 3 * 2]
            )
        elif (match := re.fullmatch(r"layers\.(\d)\.1\.(\d+)\.(.+)\.(\w+)", key)) and match[3] in names:
            name = names[match[3]]
            value = value.flatten(1) if name in LINEAR and match[4] == "weight" else value
            own[f"block{int(match[1]) + 1}.{match[2]}.{name}.{match[4]}"] = value
    return own


def in_form_of(first: str, state: State, path: Path) -> State:
    """Published weights in the form that has a tensor of that name; those of another network as they are.

    Args:
        first: AUTHORS_FIRST or OPENMMLAB_FIRST.
        state: the weights in either form.
        path: of the file, for messages.

    Raises:
        CheckpointError: tensors of other shapes.
    """
    if first in state:
        return state
    if first == OPENMMLAB_FIRST and AUTHORS_FIRST in state:
        return to_openmmlab(state)
    if first == AUTHORS_FIRST and OPENMMLAB_FIRST in state:
        return to_authors(state, path)
    return state
