"""How targets and statistics are computed: settings that change speed and memory, but not the method."""

from __future__ import annotations

from dataclasses import dataclass

from bluedit.options import Option as _Option
from bluedit.options import Options, choice, option, whole


@dataclass(frozen=True)
class _Device(_Option):
    def read(self, path: str, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f"{path} must be the name of a torch device or empty, not {value!r}")
        return value


@dataclass(frozen=True)
class Execution(Options):
    """Settings of an editor. They are not part of a recipe, of the name of stored targets, or of a benchmark's identity.

    Attributes:
        precision: of linear maps while targets are optimised: "bf16", "full", or "auto": bf16 where the device has it natively.
        tokens_per_step: tokens optimised at once, which bounds the memory taken; 0 means a quarter of the free memory.
        statistics_device: where second moments are kept and solved, e.g. "cpu"; empty means the model's device.

    Raises:
        RecipeError: a value that is not acceptable.
    """

    precision: str = choice("auto", "of linear maps while targets are optimised", "auto", "full", "bf16")
    tokens_per_step: int = whole(0, "tokens optimised at once; 0: a quarter of the free memory")
    statistics_device: str = option("", _Device("where second moments are kept and solved; empty: the model's device"))

    @classmethod
    def prefix(cls) -> str:
        return "execution."
