"""Law 7: on every mesh the same initial bits, and the same losses but for rounding."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT
from unijax.nn.sharing import SHARING

EIGHT = {
  "8x1": dict(fsdp=8),
  "4x2": dict(fsdp=4, tensor=2),
  "2x4": dict(fsdp=2, tensor=4),
  "2x2x2": dict(replica=2, fsdp=2, tensor=2),
  "context": dict(fsdp=2, context=2, tensor=2),
  "expert": dict(replica=2, fsdp=2, expert=2),
}
SIXTY_FOUR = {
  "32x2": dict(fsdp=32, tensor=2),
  "4x8x2": dict(replica=4, fsdp=8, tensor=2),
  "context": dict(fsdp=8, context=4, tensor=2),
}


def run(devices: int, name: str, folder, meshes) -> list[dict]:
  out = folder / f"{name}-{devices}.json"
  done = subprocess.run(
    [sys.executable, "-m", "tests.scale.on_devices", str(devices), name, str(out),
     *map(json.dumps, meshes)],
    cwd=ROOT, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(out.read_text())


def assert_invariant(results: list[dict], experts: bool = False) -> None:
  one, *others = results
  assert one["loss"][-1] < 0.8 * one["loss"][0], "nothing was learnt: a weak test"
  for other in others:
    assert other["init"] == one["init"], other["mesh"]
    assert other["compiled"] == 1
    degrees = other["mesh"]
    storage = degrees.get("fsdp", 1) * degrees.get("context", 1)
    storage *= degrees.get("expert", 1) if experts else 1
    assert other["parts"] == storage * degrees.get("tensor", 1), "not really divided"
    np.testing.assert_allclose(other["loss"], one["loss"], rtol=2e-6, err_msg=degrees)
    np.testing.assert_allclose(other["grad_norm"], one["grad_norm"], rtol=1e-4)


def test_eight_devices(tmp_path):
  """Every axis of the mesh at least once; the slow test has the other degrees."""
  meshes = [None, EIGHT["2x2x2"], EIGHT["context"], EIGHT["expert"]]
  assert_invariant(run(8, "plain", tmp_path, meshes))


@pytest.mark.slow
def test_eight_devices_in_all_degrees(tmp_path):
  assert_invariant(run(8, "plain", tmp_path, [None, *EIGHT.values()]))


@pytest.mark.slow
def test_accumulation_chunks_and_remat_on_a_mesh(tmp_path):
  meshes = [None, EIGHT["2x2x2"], EIGHT["context"]]
  assert_invariant(run(8, "accumulated", tmp_path, meshes))


@pytest.mark.slow
@pytest.mark.parametrize("sharing", ["experts", "full"])
def test_what_text_and_images_share(tmp_path, sharing):
  """The copies of `ffn` are among those of `full`; alone they are in the slow test."""
  meshes = [None, dict(expert=2, context=2, tensor=2)]
  assert_invariant(run(8, sharing, tmp_path, meshes), sharing == "experts")


@pytest.mark.slow
def test_low_rank_pairs_and_biases_of_experts(tmp_path):
  """Experts without pairs and biases are in the slow tests."""
  meshes = [None, dict(expert=2, context=2, tensor=2)]
  assert_invariant(run(8, "pairs", tmp_path, meshes), experts=True)


@pytest.mark.slow
@pytest.mark.parametrize("sharing", [s for s in SHARING if s != "shared"])
def test_what_text_and_images_share_on_every_mesh(tmp_path, sharing):
  meshes = [None, *EIGHT.values(), dict(expert=4, tensor=2)]
  assert_invariant(run(8, sharing, tmp_path, meshes), sharing == "experts")


@pytest.mark.slow
def test_sixty_four_devices(tmp_path):
  assert_invariant(run(64, "plain", tmp_path, [None, *SIXTY_FOUR.values()]))
