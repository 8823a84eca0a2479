"""How networks compute where not in float32 as their authors' programs do: faster, and never unsaid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from evalkit.errors import EvalkitError

Precision = Literal["float32", "tf32", "bf16"]
LAYOUT = "channels last"


@dataclass(frozen=True)
class Arithmetic:
    """The precision of products and the order of values in memory; both change last digits at least.

    Attributes:
        precision: float32; tf32, an NVIDIA GPU's products of ten bits; bf16, bfloat16 where PyTorch's autocast has it.
        channels_last: the channels of a pixel lie together, which some convolutions are faster with.
    """

    precision: Precision = "float32"
    channels_last: bool = False

    @property
    def name(self) -> str:
        """As records have it; empty for float32 in PyTorch's own order."""
        parts = [self.precision] * (self.precision != "float32") + [LAYOUT] * self.channels_last
        return ", ".join(parts)

    @classmethod
    def named(cls, name: str) -> Arithmetic:
        """The one of a record. Raises EvalkitError for a name that no record of this version has."""
        known = [cls(precision, layout) for precision in get_args(Precision) for layout in (False, True)]
        for one in known:
            if one.name == name:
                return one
        raise EvalkitError(
            f"arithmetic {name!r} is not known here: {', '.join(one.name for one in known if one.name)}."
        )

    def check(self, device: str) -> None:
        """Raises EvalkitError where the device has no such products."""
        if self.precision == "tf32" and not device.startswith("cuda"):
            raise EvalkitError("--precision tf32 is of NVIDIA GPUs: take float32 or bf16 on a processor.")


FLOAT32 = Arithmetic()
