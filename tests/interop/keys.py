"""Lists of the keys of released files, written short.

A file keys/NAME.txt has lines such as
  model.layers.{0-31}.self_attn.q_proj.weight 4096,4096
in which several braces stand for all combinations. `#` begins a remark; the first one
says how many parameters and tensors there are.

  python -m tests.interop.keys published_keys.json "LABEL" keys/NAME.txt

writes one from JSON of {label: {"source", "parameters", "tensors", "keys": {name: shape}}}.
"""

import itertools
import json
import math
import pathlib
import re
import sys

import numpy as np

HERE = pathlib.Path(__file__).parent / "keys"
COUNTS = ".num_batches_tracked"  # names of whole numbers end so


class Form:
  """Shape and dtype of a key, as `safetensors.Entry` has them."""

  def __init__(self, shape, name=""):
    self.shape = tuple(shape)
    self.dtype = np.dtype(np.int64 if name.endswith(COUNTS) else np.float32)


def read(name: str) -> tuple[dict[str, Form], dict[str, int]]:
  """Returns ({key: form}, what the first remark counts)."""
  found, counts = {}, {}
  for line in (HERE / f"{name}.txt").read_text().splitlines():
    if line.startswith("#"):
      counts |= {w: int(n) for w, n in re.findall(r"(\w+)=(\d+)", line)}
      continue
    template, _, shape = line.partition(" ")
    form = Form((int(n) for n in shape.split(",") if n), template)
    for key in _expanded(template):
      assert key not in found, key
      found[key] = form
  return found, counts


def _expanded(template: str):
  parts = re.split(r"\{([^}]*)\}", template)
  choices = [_numbers(p) if i % 2 else [p] for i, p in enumerate(parts)]
  return ("".join(x) for x in itertools.product(*choices))


def _numbers(text: str) -> list[str]:
  found = []
  for part in text.split(","):
    first, _, last = part.replace("..", "-").partition("-")
    found += [str(n) for n in range(int(first), int(last or first) + 1)]
  return found


def lines(keys: dict[str, list[int]]) -> list[str]:
  """The lines of a file."""
  groups: dict[tuple, list[tuple[int, ...]]] = {}
  every = {n: s for name, s in keys.items() for n in _expanded(name)}
  for name, shape in every.items():
    template = re.sub(r"\d+", "#", name)
    numbers = tuple(int(n) for n in re.findall(r"\d+", name))
    groups.setdefault((template, tuple(shape)), []).append(numbers)
  return [
    f"{_filled(template, box)} {','.join(map(str, shape))}".rstrip()
    for (template, shape), numbers in groups.items()
    for box in _boxes(sorted(numbers))
  ]


def _boxes(numbers: list[tuple[int, ...]]):
  """Splits tuples into products of sets."""
  sets = [sorted({n[i] for n in numbers}) for i in range(len(numbers[0]))]
  if math.prod(map(len, sets)) == len(numbers):
    yield sets
    return
  axis = next(i for i, s in enumerate(sets) if len(s) > 1)
  for value in sets[axis]:
    yield from _boxes([n for n in numbers if n[axis] == value])


def _filled(template: str, box) -> str:
  values = iter(box)
  return re.sub("#", lambda _: _range(next(values)), template)


def _range(values: list[int]) -> str:
  if len(values) == 1:
    return str(values[0])
  runs = []
  for v in values:
    if runs and runs[-1][1] == v - 1:
      runs[-1][1] = v
    else:
      runs.append([v, v])
  return "{" + ",".join(f"{a}-{b}" if b > a else str(a) for a, b in runs) + "}"


if __name__ == "__main__":
  source, label, out = sys.argv[1:]
  entry = json.loads(pathlib.Path(source).read_text())[label]
  head = f"# {label}: parameters={entry['parameters']} tensors={entry['tensors']}"
  pathlib.Path(out).write_text("\n".join([head, *lines(entry["keys"])]) + "\n")
