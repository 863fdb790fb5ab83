"""Runs several points of a config on this machine, a few at a time.

  python launch/local.py --config=configs/transfusion.py:tiny --root=runs/search \\
    --point optim.learning_rate=0.005 --point optim.learning_rate=0.02,seed=1 \\
    --slots=1

Each point is one `unijax train` in its own directory under --root, named after the
point; started again, finished points cost nothing and interrupted ones resume.
"""

import argparse
import concurrent.futures
import pathlib
import re
import subprocess
import sys


def command(config: str, root: pathlib.Path, point: str) -> list[str]:
  """Returns the training command of a point 'a.b=1,c=2'; '' is the config itself."""
  overrides = [x.strip() for x in point.split(",") if x.strip()]
  wrong = [x for x in overrides if "=" not in x]
  if wrong:
    raise SystemExit(f"--point {point!r}: {wrong[0]!r} is not knob=value")
  name = re.sub(r"[^\w.=-]+", "_", point) or "base"
  return [
    sys.executable, "-m", "unijax", "train", f"--config={config}",
    f"--workdir={root / name}", *(f"--config.{x}" for x in overrides),
  ]  # fmt: skip


def run(job: list[str], root: pathlib.Path) -> tuple[list[str], int, str]:
  """Runs one job with its output in a log file; returns it, its status, its RESULT."""
  workdir = next(x.removeprefix("--workdir=") for x in job if "--workdir=" in x)
  log = pathlib.Path(workdir).with_suffix(".log")
  with log.open("w") as file:
    status = subprocess.run(job, stdout=file, stderr=subprocess.STDOUT).returncode
  lines = [x for x in log.read_text().splitlines() if x.strip()]
  return job, status, lines[-1] if lines else ""


def main() -> None:
  """Parses the arguments and runs all points; fails if one of them did."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--config", required=True, help="FILE[:preset]")
  parser.add_argument(
    "--root", required=True, type=pathlib.Path, help="for run folders"
  )
  parser.add_argument("--point", action="append", help="knob=value[,knob=value]")
  parser.add_argument("--slots", type=int, default=1, help="points at a time")
  args = parser.parse_args()
  args.root.mkdir(parents=True, exist_ok=True)
  jobs = [command(args.config, args.root, p) for p in args.point or [""]]
  failed = 0
  with concurrent.futures.ThreadPoolExecutor(args.slots) as pool:
    done = [pool.submit(run, job, args.root) for job in jobs]
    for future in concurrent.futures.as_completed(done):
      job, status, last = future.result()
      failed += status != 0
      print(
        f"{'ok' if status == 0 else f'exit {status}':8s} {' '.join(job[4:])}\n  {last}"
      )
  sys.exit(1 if failed else 0)


if __name__ == "__main__":
  main()
