"""The compiler's own estimate of a schedule, in cycles of one chip.

The TPU compiler writes `estimated_cycles` beside most computing instructions. It gives
none to collectives, to waiting for copies, or to Pallas kernels (`tpu_custom_call`), so
the sum is no time: it compares programs whose missing parts are alike.
"""

import re

from unijax.dryrun.hlo import Executed, Instruction


def estimate(executed: list[Executed]) -> dict:
  """Sums the compiler's `estimated_cycles` over the schedule, loops multiplied out.

  Returns:
    total: cycles of one core; by_opcode: the same split; without_estimate: how many
    executed instructions carry no estimate, by opcode (custom calls by target).
  """
  by_opcode: dict[str, int] = {}
  missing: dict[str, int] = {}
  for e in executed:
    i, estimate = e.instruction, e.instruction.cycles
    if estimate is not None:
      by_opcode[i.opcode] = by_opcode.get(i.opcode, 0) + estimate * e.times
    elif i.opcode not in FREE:
      kind = i.opcode
      if kind == "custom-call":
        target = re.search(r'custom_call_target="([^"]*)"', i.attributes)
        kind = f"custom-call {target[1]}" if target else kind
      elif kind == "fusion":
        kind = f"fusion {fusion_kind(i)}"
      missing[kind] = missing.get(kind, 0) + e.times
  return {
    "total": sum(by_opcode.values()),
    "by_opcode": dict(sorted(by_opcode.items())),
    "without_estimate": dict(sorted(missing.items())),
  }


FREE = frozenset(
  "parameter constant tuple get-tuple-element bitcast while call conditional "
  "after-all partition-id replica-id optimization-barrier".split()
)


def fusion_kind(instruction: Instruction) -> str:
  """What a fusion is, from the name of the computation it calls, without numbers."""
  names = instruction.called.get("calls", ("?",))
  return re.sub(r"(\.clone|\.\d+)+$", "", names[0])
