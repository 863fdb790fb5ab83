"""Reading the text of a compiled XLA module: computations, loops, how often each runs.

The text is what `compiled.as_text()` returns after scheduling. Loops are `while`
instructions; a scan over layers is one body that runs many times, so every count or
cost is multiplied by the trip counts of the loops around it.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator

BYTES = {
  "pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "s32": 4, "u32": 4, "s64": 8,
  "u64": 8, "bf16": 2, "f16": 2, "f32": 4, "f64": 8, "c64": 8, "c128": 16, "s4": 0.5,
  "u4": 0.5, "f8e4m3fn": 1, "f8e5m2": 1, "f8e4m3b11fnuz": 1,
}  # fmt: skip
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_OPCODE = re.compile(r"\s*([a-z][\w\-]*)\(")
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")
_CALLED = re.compile(
  r"(calls|to_apply|body|condition|branch_computations"
  r"|true_computation|false_computation)=(\{[^}]*\}|%?[\w.\-]+)"
)
_CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"?(\d+)')


class HloError(ValueError):
  """The text is not a scheduled HLO module that this reader understands."""


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line: `name = shape opcode(operands), attributes`."""

  name: str
  shape: str
  opcode: str
  operands: tuple[str, ...]
  literal: str  # what stands between the parentheses, for constants
  attributes: str
  root: bool

  @functools.cached_property
  def called(self) -> dict[str, tuple[str, ...]]:
    """Computations by the role they have: body, condition, calls, to_apply ..."""
    return {
      role: tuple(n.strip(" %") for n in names.strip("{}").split(","))
      for role, names in _CALLED.findall(self.attributes.split("metadata=")[0])
    }

  @property
