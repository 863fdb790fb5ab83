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
  def cycles(self) -> int | None:
    """The compiler's estimate of this instruction, or None where it gave none."""
    match = _CYCLES.search(self.attributes)
    return int(match[1]) if match else None


@dataclasses.dataclass(frozen=True)
class Computation:
  """Instructions by name, in the order of the schedule."""

  name: str
  instructions: dict[str, Instruction]

  @property
  def root(self) -> Instruction:
    """The instruction whose value the computation returns."""
    found = [i for i in self.instructions.values() if i.root]
    if len(found) != 1:
      raise HloError(f"computation {self.name}: {len(found)} roots instead of one")
    return found[0]


@dataclasses.dataclass(frozen=True)
class Module:
  """A compiled program."""

  computations: dict[str, Computation]
  entry: str


def parse(text: str) -> Module:
  """Reads a module.

  Raises:
    HloError: no entry computation, or a line that is no instruction.
  """
  computations: dict[str, Computation] = {}
  entry, current = None, None
  pending: list[str] = []  # an instruction; metadata of kernels may span lines

  def finish():
    if pending:
      instruction = _instruction("\n".join(pending))
      current.instructions[instruction.name] = instruction
      pending.clear()

  lines = [*text.splitlines(), ""]
  for line, after in zip(lines, lines[1:], strict=False):
    if current is None:
      match = _COMPUTATION.match(line)
      if match:
        current = Computation(match[2], {})
        computations[match[2]] = current
        entry = match[2] if match[1] else entry
    elif line == "}" and not after.strip():
      finish()
      current = None
    elif _INSTRUCTION.match(line):
      finish()
      pending.append(line)
    elif pending:
      pending.append(line)
  if entry is None:
    raise HloError(
      "no ENTRY computation: pass compiled.as_text(), the text after optimisation"
    )
  return Module(computations, entry)


def _instruction(line: str) -> Instruction:
  head = _INSTRUCTION.match(line)
  at = head.end()
  shape_end = _closing(line, at) if line[at] == "(" else line.index(" ", at)
  opcode = _OPCODE.match(line, shape_end)
  if opcode is None:
    raise HloError(f"not an instruction: {line.strip()[:200]}")
  end = _closing(line, opcode.end() - 1)
  inside = line[opcode.end() : end - 1]
  operands = tuple(re.findall(r"%([\w.\-]+)", inside))
  return Instruction(
    head[2], line[at:shape_end], opcode[1], operands, inside, line[end:], bool(head[1])
  )


def _closing(line: str, at: int) -> int:
  """Index after the parenthesis that closes the one at `at`."""
  depth = 0
  for i in range(at, len(line)):
    if line[i] == "(":
      depth += 1
    elif line[i] == ")":
      depth -= 1
      if depth == 0:
        return i + 1
  raise HloError(f"unbalanced parentheses: {line.strip()[:200]}")


def arrays(shape: str) -> list[tuple[str, int]]:
  """Returns (dtype, elements) of each array in a shape, which may be a tuple."""
  found = []
  for dtype, sizes in _ARRAY.findall(shape):
    if dtype in BYTES:
      count = 1
      for size in filter(None, sizes.split(",")):
        count *= int(size)
      found.append((dtype, count))
  return found


def size(shape: str) -> int:
  """Bytes of a shape without padding of its layout."""
  return int(sum(BYTES[dtype] * count for dtype, count in arrays(shape)))


def trip_count(module: Module, where: Computation, loop: Instruction) -> int | None:
  """How often a `while` runs its body, or None where that depends on data.

  Takes what the compiler wrote, or else follows the counter: its first value, the
  constant added in the body, the bound it is compared with.
  """
  known = _TRIPS.search(loop.attributes)
  if known:
    return int(known[1])
  condition = module.computations[loop.called["condition"][0]]
  compare = condition.root
  if compare.opcode != "compare" or "direction=LT" not in compare.attributes:
    return None
  first = where.instructions.get(loop.operands[0]) if loop.operands else None
  sides = [condition.instructions.get(name) for name in compare.operands]
  if first is None or first.opcode != "tuple" or None in sides:
    return None
  counter = _element(sides[0])
  if counter is None:
    return None
  start = _constant(where, first.operands[counter])
  bound = _constant(condition, sides[1].name)
  if bound is None and _element(sides[1]) is not None:
    bound = _constant(where, first.operands[_element(sides[1])])
  step = _increment(module.computations[loop.called["body"][0]], counter)
  if start is None or bound is None or not step:
    return None
  return max(0, -(-(bound - start) // step))


def _element(instruction: Instruction) -> int | None:
  match = re.search(r"index=(\d+)", instruction.attributes)
  return int(match[1]) if instruction.opcode == "get-tuple-element" and match else None


def _constant(where: Computation, name: str) -> int | None:
  instruction = where.instructions.get(name)
  while instruction and instruction.opcode in ("copy", "bitcast", "convert"):
    instruction = where.instructions.get(instruction.operands[0])
  if instruction is None or instruction.opcode != "constant":
    return None
  return (
    int(instruction.literal) if re.fullmatch(r"-?\d+", instruction.literal) else None
  )


def _increment(body: Computation, counter: int) -> int | None:
  root = body.root
  if root.opcode != "tuple":
    return None
  added = body.instructions.get(root.operands[counter])
  while added and added.opcode == "copy":
    added = body.instructions.get(added.operands[0])
  if added is None or added.opcode != "add":
    return None
  constants = [_constant(body, name) for name in added.operands]
  return next((c for c in constants if c is not None), None)


@dataclasses.dataclass(frozen=True)
class Executed:
  """An instruction of a scheduled computation, and how often a step runs it."""

  where: Computation
  instruction: Instruction
  times: int


def schedule(module: Module) -> tuple[list[Executed], list[str]]:
  """Walks the entry and whatever it loops over, calls or branches to.

  Fusions are single instructions of the schedule. Every branch of a conditional is
  counted once.

  Returns:
    (instructions with their counts; names of loops of unknown length, counted once).
  """
  unknown: list[str] = []
  return list(_walk(module, module.entry, 1, unknown)), unknown


def _walk(module, name: str, times: int, unknown: list[str]) -> Iterator[Executed]:
  computation = module.computations[name]
  for instruction in computation.instructions.values():
    yield Executed(computation, instruction, times)
    inner = times
    if instruction.opcode == "while":
      trips = trip_count(module, computation, instruction)
      if trips is None:
        unknown.append(instruction.name)
      inner = times * (1 if trips is None else trips)
    elif instruction.opcode not in ("call", "conditional", "async-start"):
      continue
    for role, names in instruction.called.items():
      if role != "to_apply" or instruction.opcode == "call":
        for called in names:
          yield from _walk(module, called, inner, unknown)
