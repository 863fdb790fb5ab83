"""Collectives of a compiled module: kind, count, bytes, mesh axis, network.

Sources of what the text means: the HLO text forms of `replica_groups` (a list of lists,
`[groups,size]<=[dims]T(perm)`, and `mesh['a'=2,...] {'a'}`) are those that XLA prints.
TPU writes a reduce-scatter as an all-reduce inside a fusion named
`all-reduce-scatter`, hands what goes to other slices to the host (`send` with the
handler megascale), and overlaps an all-gather with matrix products by repeating it,
under one channel, in every fusion of the chain, which counts once.
"""

import dataclasses
import math
import re

import numpy as np

from unijax.dryrun import hlo
from unijax.dryrun.hlo import Executed, Instruction, Module

KINDS = (
  "all-gather", "reduce-scatter", "all-reduce", "all-to-all", "ragged-all-to-all",
  "collective-permute", "collective-broadcast",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class MeshLayout:
  """What the numbers in replica groups mean: place i of the mesh, in row-major order.

  Attributes:
    axes: name -> degree, in the order of the mesh.
    slice_of: slice of each device, in the same order.
  """

  axes: dict[str, int]
  slice_of: np.ndarray

  @classmethod
  def of(cls, mesh, slices: int = 1) -> "MeshLayout":
    """The layout of a jax Mesh; simulated slices are consecutive devices."""
    devices = list(mesh.devices.flat)
    numbers = [getattr(d, "slice_index", None) for d in devices]
    if None in numbers:
      numbers = [d.id * slices // len(devices) for d in devices]
    return cls(dict(mesh.shape), np.unique(numbers, return_inverse=True)[1])

  def axis(self, groups: np.ndarray) -> str:
    """Names the mesh axes along which the members of [groups, members] differ."""
    coordinates = np.unravel_index(groups, tuple(self.axes.values()))
    names = [
      name
      for name, c in zip(self.axes, coordinates, strict=True)
      if (c != c[:, :1]).any()
    ]
    return "+".join(names) or "none"

  def slices(self, groups: np.ndarray) -> int:
    """Largest number of slices that one group touches."""
    s = np.sort(self.slice_of[groups], axis=1)
    return int((1 + (s[:, 1:] != s[:, :-1]).sum(axis=1)).max())


@dataclasses.dataclass(frozen=True)
class Collective:
  """One collective of the program.

  Attributes:
    payload: bytes of the whole array on one device: what is gathered, or reduced.
    sent: least bytes one chip sends on the network named, for one execution.
  """

  kind: str
  axis: str
  network: str
  members: int
  payload: int
  sent: float
  times: int


def find(module: Module, executed: list[Executed], mesh: MeshLayout):
  """Returns the collectives of a schedule, those inside fusions too."""
  found: list[Collective] = []
  seen: set[tuple[str, str]] = set()
  for e in executed:
    if e.instruction.opcode == "send" and "megascale" in e.instruction.attributes:
      found.append(_between_slices(e.instruction, e.times, mesh))
    for instruction, inside in _candidates(module, e.instruction):
      kind = _kind(instruction, inside)
      if kind is None:
        continue
      channel = re.search(r"channel_id=(\d+)", instruction.attributes)
      key = (e.where.name, channel[1] if channel else instruction.name)
      if key in seen:
        continue
      seen.add(key)
      found += _collective(kind, instruction, e.times, mesh)
  return found


def table(found: list[Collective]) -> list[dict]:
  """Groups collectives by kind, axis and network, largest traffic first."""
  rows: dict[tuple[str, str, str], dict] = {}
  for c in found:
    row = rows.setdefault(
      (c.kind, c.axis, c.network),
      {"kind": c.kind, "axis": c.axis, "network": c.network, "members": c.members,
       "count": 0, "payload_bytes": 0, "sent_bytes": 0},
    )  # fmt: skip
    row["count"] += c.times
    row["payload_bytes"] += c.payload * c.times
    row["sent_bytes"] += round(c.sent * c.times)
  return sorted(rows.values(), key=lambda r: (-r["sent_bytes"], r["kind"], r["axis"]))


def _candidates(module: Module, instruction: Instruction, inside: str = ""):
  """The instruction itself, and those of the computations it fuses."""
  yield instruction, inside
  if instruction.opcode == "fusion":
    for name in instruction.called.get("calls", ()):
      for inner in module.computations[name].instructions.values():
        yield from _candidates(module, inner, name)


def _kind(instruction: Instruction, inside: str) -> str | None:
  opcode = instruction.opcode.removesuffix("-start")
  if opcode not in KINDS:
    return None
  if opcode == "all-reduce" and inside.startswith("all-reduce-scatter"):
    return "reduce-scatter (fused)"
  return opcode


def _collective(kind, instruction: Instruction, times: int, mesh: MeshLayout):
  if kind == "collective-permute":
    groups = _pairs(instruction.attributes)
    groups = groups[groups[:, 0] != groups[:, 1]]
  else:
    groups = replica_groups(instruction.attributes, len(mesh.slice_of))
  if groups.size == 0 or groups.shape[1] < 2:
    return []  # moves nothing between devices
  n, slices = groups.shape[1], mesh.slices(groups)
  payload = _payload(kind, instruction, n)
  network = "DCN" if slices > 1 else "ICI"
  # A group that spans slices must at least exchange over DCN what a group of whole
  # slices would, spread over the chips that each slice has in it.
  members, share = (slices, slices / n) if slices > 1 else (n, 1.0)
  sent = SENT[kind.split()[0]](members) * payload * share
  return [Collective(kind, mesh.axis(groups), network, n, payload, sent, times)]


# Bytes that each of n members must send, as a share of the payload: ring algorithms
# (Thakur et al. 2005), which are optimal in bandwidth.
SENT = {
  "all-gather": lambda n: (n - 1) / n,
  "reduce-scatter": lambda n: (n - 1) / n,
  "all-reduce": lambda n: 2 * (n - 1) / n,
  "all-to-all": lambda n: (n - 1) / n,
  "ragged-all-to-all": lambda n: (n - 1) / n,
  "collective-permute": lambda n: 1.0,
  "collective-broadcast": lambda n: 1.0,
}


def _payload(kind: str, instruction: Instruction, members: int) -> int:
  shape = instruction.shape
  if instruction.opcode == "all-gather-start":
    # (operands, results); every result is `members` operands.
    return hlo.size(shape) * members // (members + 1)
  if instruction.opcode == "collective-permute-start":
    dtype, count = hlo.arrays(shape)[0]  # (operand, result, two flags)
    return int(hlo.BYTES[dtype] * count)
  if kind == "reduce-scatter":
    return hlo.size(shape) * members
  return hlo.size(shape)


def _pairs(attributes: str) -> np.ndarray:
  match = re.search(r"source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}", attributes)
  pairs = re.findall(r"\{(\d+),(\d+)\}", match[1]) if match else []
  return np.asarray(pairs, np.int64).reshape(-1, 2)


def replica_groups(attributes: str, devices: int) -> np.ndarray:
  """Reads `replica_groups=` in any of its three forms: int64 [groups, members].

  Raises:
    HloError: a form that is not known.
  """
  named = re.search(r"replica_groups=(mesh\[.*?\].*?\{.*?\})", attributes)
  if named:
    return _named(named[1])
  match = re.search(r"replica_groups=(\S+?)(?:, |$)", attributes)
  text = match[1] if match else "{}"
  if text.startswith("{"):
    lists = re.findall(r"\{([\d,]+)\}", text)
    if not lists:
      return np.arange(devices)[None]
    return np.asarray([[int(i) for i in g.split(",")] for g in lists])
  iota = re.fullmatch(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
  if iota is None:
    raise hlo.HloError(f"replica_groups of an unknown form: {text[:100]}")
  shape, dims, order = ([int(i) for i in (g or "").split(",") if i]
                        for g in iota.groups())  # fmt: skip
  ids = np.arange(math.prod(dims)).reshape(dims)
  return (ids.transpose(order) if order else ids).reshape(shape)


def _named(text: str) -> np.ndarray:
  """Groups along named axes: mesh['a'=2,'b'=4] or with device_ids=([4,2]T(1,0))."""
  inside = re.search(r"mesh\[(.*?)\]", text)[1]
  sizes = {n: int(s) for n, s in re.findall(r"'([^']+)'=(\d+)", inside)}
  last = text[text.rindex("{") :]
  if ":" in last:
    raise hlo.HloError(f"replica_groups of an unknown form: {text[:100]}")
  names = re.findall(r"'([^']+)'", last)
  ids = np.arange(math.prod(sizes.values()))
  order = re.search(r"device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\)", text)
  if order:
    dims, turn = ([int(i) for i in (g or "").split(",") if i] for g in order.groups())
    ids = ids.reshape(dims)
    ids = ids.transpose(turn) if turn else ids
  elif "device_ids" in text:
    raise hlo.HloError(f"replica_groups of an unknown form: {text[:100]}")
  ids = ids.reshape(tuple(sizes.values()))
  moved = [list(sizes).index(n) for n in names]
  rest = [i for i in range(len(sizes)) if i not in moved]
  members = math.prod(sizes[n] for n in names)
  return ids.transpose(rest + moved).reshape(-1, members)


def _between_slices(instruction: Instruction, times: int, mesh: MeshLayout):
  """A TPU transfer over DCN: a `send` to the host, which exchanges it with slices.

  Chip i of every slice takes part with chip i of the others.
  """
  kind = re.search(r'_xla_megascale_transfer_type="(\w+)"', instruction.attributes)
  kind = kind[1].lower().replace("_", "-") if kind else "send"
  by_slice = np.argsort(mesh.slice_of, kind="stable")
  groups = by_slice.reshape(mesh.slice_of.max() + 1, -1).T
  dtype, count = hlo.arrays(instruction.shape)[0]
  payload = int(hlo.BYTES[dtype] * count)
  n = groups.shape[1]
  sent = SENT.get(kind, SENT["collective-permute"])(n) * payload
  return Collective(kind, mesh.axis(groups), "DCN", n, payload, sent, times)
