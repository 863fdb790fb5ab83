"""Law 7 for every way to write images: meshes change neither bits nor losses."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.laws.variants import VARIANTS

QUICK = ("masked-shared",)  # it sorts within rows; the rest are in the slow suite


def on_eight_devices(names, folder) -> dict:
  out = folder / "losses.json"
  done = subprocess.run(
    [sys.executable, "-m", "tests.laws.on_devices", str(out), *names],
    cwd=ROOT, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(out.read_text())


def check(names, folder):
  for name, (one, *others) in (
    (name, list(found.values()))
    for name, found in on_eight_devices(names, folder).items()
  ):
    assert one["loss"][-1] < one["loss"][0], f"{name}: nothing was learnt: a weak test"
    for other in others:
      assert other["init"] == one["init"], name
      np.testing.assert_allclose(other["loss"], one["loss"], rtol=2e-6, err_msg=name)


def test_masked_codes_on_eight_devices(tmp_path):
  check(QUICK, tmp_path)


REST = [n for n in VARIANTS if n not in QUICK]
DIVIDED = 4  # variants of one process


@pytest.mark.slow
@pytest.mark.parametrize(
  "names", [REST[i : i + DIVIDED] for i in range(0, len(REST), DIVIDED)], ids="+".join
)
def test_everything_on_eight_devices(names, tmp_path):
  check(names, tmp_path)
