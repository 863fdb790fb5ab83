"""The reference's side: runs where torch and its libraries are, and jax is not.

python -m tests.interop.peers write [CASE ..]    expected/CASE.npz anew
python -m tests.interop.peers check [CASE ..]    they are still what the library says
python -m tests.interop.peers load FOLDER        models that `run export` wrote
"""

import json
import pathlib
import sys
import tempfile

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from tests.interop import cases, numbers

torch.set_num_threads(1)
torch.manual_seed(0)
torch.use_deterministic_algorithms(True)


def expected(family, case: cases.Case) -> cases.Expected:
  """What the library computes with weights that are functions of their names."""
  with tempfile.TemporaryDirectory() as place:
    folder = pathlib.Path(place)
    family.build(dict(case.published)).save_pretrained(folder)
    forms, whole = {}, {}
    inside = getattr(family, "PLACES", {})
    for file in folder.rglob("*.safetensors"):  # those in folders have names with them
      place = file.relative_to(folder).parent / inside.get(file.name, "")
      arrays = {}
      with safe_open(file, "np") as opened:
        for short in opened.keys():  # noqa: SIM118 (it is no dict)
          name, form = str(place / short), opened.get_slice(short)
          forms[name] = form.get_dtype(), tuple(form.get_shape())
          if not form.get_dtype().startswith(("F", "B")):
            whole[name] = opened.get_tensor(short)
          made = numbers.weight(name, forms[name][1], case.scale)
          arrays[short] = whole.get(name, made)
      save_file(arrays, file, {"format": "pt"})
    model = family.load(folder)
    outputs = run(family, case, model)
  rename = getattr(family, "other_names", lambda *_: {})
  others = rename(dict(case.published), forms)
  return cases.Expected(forms, whole, outputs, others)


def run(family, case: cases.Case, model) -> dict[str, np.ndarray]:
  with torch.no_grad():
    return {n: np.asarray(x) for n, x in family.peer(model, case.inputs()).items()}


def write(names) -> int:
  for name, (family, case) in chosen(names):
    made = expected(family, case)
    cases.write_expected(name, made)
    shapes = {n: x.shape for n, x in made.outputs.items()}
    layouts = ", ".join(made.others) or "none"
    print(
      f"{name}: {len(made.forms)} weights, outputs {shapes}, other layouts {layouts}",
      flush=True,
    )
  return 0


def check(names) -> int:
  bad = 0
  for name, (family, case) in chosen(names):
    made, kept = expected(family, case), cases.read_expected(name)
    errors = {n: cases.error(made.outputs[n], x) for n, x in kept.outputs.items()}
    same = (made.forms, json.dumps(made.others)) == (
      kept.forms,
      json.dumps(kept.others),
    )
    good = same and max(errors.values()) < cases.BOUND / 2  # builds of torch differ
    bad += not good
    print(f"{name}: {'as kept' if good else f'DIFFERS: {errors}'}", flush=True)
  return bad


def load(names) -> int:
  """Loads what was exported; its outputs are those of the model it was imported from."""
  bad, found, folder = 0, {}, pathlib.Path(names[0])
  made = [name for name in cases.everything() if (folder / f"{name}.json").is_file()]
  for name, (family, case) in chosen(made):
    model = family.load(folder / name)
    outputs, kept = run(family, case, model), cases.read_expected(name).outputs
    worst = found[name] = max(cases.error(outputs[n], x) for n, x in kept.items())
    good = worst <= case.bound
    bad += not good
    print(f"| {name} | exported, loaded by the library | {worst:.1e} |"
          f"{'' if good else ' BAD'}", flush=True)  # fmt: skip
  (folder / "loaded.json").write_text(json.dumps(found))
  return bad


def chosen(names):
  every = cases.everything()
  return [(n, every[n]) for n in names or every]


if __name__ == "__main__":
  verbs = {"write": write, "check": check, "load": load}
  sys.exit(verbs[sys.argv[1]](sys.argv[2:]))
