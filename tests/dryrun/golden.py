"""Plans that the tests compare with: presets of the paper on four pods.

  python -m tests.dryrun.golden [NAME ...]    write those that are missing, or these

Compiling all of them takes hours on two cores; each is written when it is done. Rows of
a micro-batch are chosen so that one row a chip runs at a time.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = pathlib.Path(__file__).parent / "golden"
ROWS = 512  # train.batch_size of the presets
SIZES = ("0.16B", "0.37B", "0.76B", "1.4B", "7B")
PODS = {  # Cloud's name -> topology, slices, chips; v5p-1024 counts TensorCores
  "v5e-16": ("v5e:4x4", 1, 16),
  "v6e-256": ("v6e:16x16", 1, 256),
  "v5p-1024": ("v5p:8x8x8", 1, 512),
  "2xv5e-256": ("v5e:16x16", 2, 512),
}
NAMES = [f"{size}-on-{pod}" for pod in PODS for size in SIZES] + ["7B-on-v5p-128"]
PODS["v5p-128"] = ("v5p:4x4x4", 1, 64)
KEPT = (
  "topology", "devices", "mesh", "jax", "compiler", "fits", "units_per_step",
  "memory_bytes", "memory_limit_bytes", "collectives", "cycles", "flops",
)  # fmt: skip


def arguments(name: str) -> list[str]:
  """The command line of a golden plan."""
  size, _, pod = name.partition("-on-")
  topology, slices, chips = PODS[pod]
  replicas = max(1, chips // slices // 256)  # more parts than 256 divide no 0.16B
  return [
    "plan", f"--config=configs/transfusion.py:{size}", f"--topology={topology}",
    f"--slices={slices}", f"--config.train.micro_batches={ROWS // chips}", "--search=0",
    *([f"--config.mesh.replica={replicas}"] if replicas > 1 else []),
  ]  # fmt: skip


def plan(extra: list[str]) -> tuple[dict, int]:
  """Runs `unijax plan` in a process of its own: (its JSON, its exit code)."""
  with tempfile.TemporaryDirectory() as folder:
    out = pathlib.Path(folder) / "plan.json"
    done = subprocess.run(
      [sys.executable, "-m", "unijax", *extra, f"--json={out}"],
      cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    if done.returncode not in (0, 4):
      raise RuntimeError(f"unijax {' '.join(extra)} exited {done.returncode}")
    return json.loads(out.read_text()), done.returncode


def main(names: list[str]) -> None:
  FOLDER.mkdir(exist_ok=True)
  for name in names or NAMES:
    path = FOLDER / f"{name}.json"
    if path.exists() and not names:
      continue
    print(f"== {name}", flush=True)
    report, _ = plan(arguments(name))
    write(name, report)


def write(name: str, report: dict) -> None:
  """Keeps what the tests compare, and the command that made it."""
  kept = {key: report[key] for key in KEPT if key in report}
  kept["command"] = "unijax " + " ".join(arguments(name))
  (FOLDER / f"{name}.json").write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
  main(sys.argv[1:])
