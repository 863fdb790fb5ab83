"""A released model, imported, tuned with low-rank pairs, sampled, merged, exported."""

import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.conftest import ROOT
from tests.interop import cases, run
from tests.interop.asked import result
from unijax import cli, low_rank
from unijax.checkpoint.reader import Reader
from unijax.interop import exporting, importing
from unijax.train.metrics import read_metrics

QUIET = lambda text: None
STEPS = 20


def numbers(workdir) -> dict[str, np.ndarray]:
  """Every parameter of a run's last checkpoint, pairs too, by its dotted name."""
  reader = Reader(workdir)

  def use(manifest):
    wanted = {
      n: jax.ShapeDtypeStruct(x.shape, x.dtype)
      for n, x in manifest.leaves.items()
      if n.startswith("params.")
    }
    return {n: np.asarray(x) for n, x in reader.read(manifest, wanted).items()}

  return {n.removeprefix("params."): x for n, x in reader.first_whole(use).items()}


@pytest.mark.slow
def test_a_run_divided_over_devices_is_exported(tmp_path):
  done = subprocess.run(
    [sys.executable, "-m", "tests.interop.sharded", "qwen2-quiet", tmp_path],
    cwd=ROOT, text=True, capture_output=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3000:]
  assert done.stdout.splitlines()[-1] == "equal"


@pytest.mark.slow
def test_an_imported_decoder_is_tuned_with_pairs_and_goes_back(tmp_path, capsys):
  case = cases.everything()["qwen2-loud"][1]
  release = run.write_release(case, tmp_path / "release")
  first, tuned, whole = (tmp_path / name for name in ("first", "tuned", "whole"))
  importing.import_run(case.system, release, first, say=QUIET)
  few = [f"--config.train.steps={STEPS}", "--config.train.batch_size=2",
         "--config.train.log_every=1", "--config.optim.learning_rate=0.01",
         "--config.optim.warmup_steps=0", "--config.train.ema_decay=0.5",
         "--config.lora.rank=4", "--config.data.seq_len=768"]  # fmt: skip
  cli.main(["train", f"--config={first}/config.py", f"--workdir={tuned}",
            f"--init-from={first}", *few])  # fmt: skip
  losses = [x["train/loss"] for x in read_metrics(tuned) if "train/loss" in x]
  assert len(losses) == STEPS and np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])
  before, after = numbers(first), numbers(tuned)
  assert all(np.array_equal(after[n], x) for n, x in before.items())
  assert after.keys() - before.keys() and all(
    n.startswith(low_rank.PAIRS) for n in after.keys() - before.keys()
  )
  cli.main(["ckpt", "merge", str(tuned), f"--out={whole}"])
  exporting.export_run(str(tuned), tmp_path / "out", case.system, say=QUIET)
  back = run.params(importing.look(case.system, tmp_path / "out"))
  merged = {n.replace(".", "/"): x for n, x in numbers(whole).items()}
  assert back.keys() == merged.keys()
  for name, x in merged.items():
    np.testing.assert_array_equal(back[name], x, err_msg=name)
  was = {n.replace(".", "/"): x for n, x in before.items()}
  moved = {n for n, x in merged.items() if not np.array_equal(x, was[n])}
  assert moved == {n for n in merged if "blocks" in n and n.endswith("kernel")}
  answers = []
  for workdir in (tuned, whole):
    capsys.readouterr()
    cli.main(["sample", f"--workdir={workdir}", "--prompt=abc", "--begin=text"])
    said = result(capsys)
    answers.append(said["texts"])
  assert answers[0] == answers[1] and answers[0][0]
