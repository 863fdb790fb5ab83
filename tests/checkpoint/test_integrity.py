"""Laws of the digest and the manifest."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.checkpoint import digests, states
from tests.conftest import ROOT, environment
from unijax.checkpoint import integrity
from unijax.checkpoint.errors import CheckpointError, Damage
from unijax.checkpoint.integrity import Leaf, Manifest
from unijax.checkpoint.reader import Reader

LEAVES = digests.leaves()


def digest(x) -> tuple:
  return tuple(int(v) for v in integrity.digest(x))


def test_digests_and_checkpoints_are_the_same_on_any_mesh(tmp_path):
  run = states.make_run(tmp_path / "run", 5)
  meshes = ("8", "4x2", "2x4")
  done = subprocess.run(
    [sys.executable, "-m", "tests.checkpoint.digests", run, *meshes], cwd=ROOT,
    env=environment(8), text=True, capture_output=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  found = json.loads(done.stdout.splitlines()[-1])
  here = {name: list(digest(x)) for name, x in LEAVES.items()}
  assert found == dict.fromkeys(meshes, {"digests": here, "equal": True})
  one = integrity.read_manifest(run / "checkpoints" / "5")
  for mesh in meshes:  # and back on one device
    folder = tmp_path / f"run-{mesh}"
    (folder / "config.json").write_text("{}")
    reader = Reader(folder)
    assert states.equal(reader.restore(states.ABSTRACT), states.state(5))
    assert reader.check_files(5).leaves == one.leaves
    reader.close()


def by_hand(x: np.ndarray) -> tuple:
  """The digest of float32 numbers in plain Python."""

  def mix(v):
    v = (v ^ v >> 16) * 0x85EBCA6B % 2**32
    v = (v ^ v >> 13) * 0xC2B2AE35 % 2**32
    return v ^ v >> 16

  sums = [0, 0]
  for place, word in enumerate(x.reshape(-1).view(np.uint32).tolist()):
    first = mix(word ^ mix((place + 0x9E3779B9) % 2**32))
    sums[0] += first
    sums[1] += mix((first + 0x7F4A7C15) % 2**32)
  return sums[0] % 2**32, sums[1] % 2**32


def test_digests_do_not_change_between_versions():
  """A checkpoint written by one version is checked by the next."""
  x = np.arange(6, dtype=np.float32).reshape(2, 3)
  assert digest(jnp.asarray(x)) == by_hand(x) == (26474931, 2340330768)
  assert digest(LEAVES["float32"]) == by_hand(np.asarray(LEAVES["float32"]))
  assert digest(jnp.zeros((0, 3))) == (0, 0)


def bits_of(x) -> np.ndarray:
  """The bytes of an array, as one that can be changed."""
  x = jax.random.key_data(x) if integrity.is_key(x) else x
  return np.frombuffer(np.asarray(x).tobytes(), np.uint8).copy()


WHOLE = [n for n, x in LEAVES.items() if x.size and n not in ("bool", "int4", "keys")]


@pytest.mark.parametrize("name", WHOLE)
def test_any_flipped_bit_changes_the_digest(name):
  x = LEAVES[name]
  before, data = digest(x), bits_of(x)
  for bit in np.random.default_rng(1).permutation(8 * len(data))[:40]:
    flipped = data.copy()
    flipped[bit // 8] ^= 1 << (bit % 8)
    other = np.frombuffer(flipped.tobytes(), x.dtype).reshape(x.shape)
    assert digest(jnp.asarray(other)) != before, (name, bit)


def test_what_looks_equal_and_is_not():
  assert digest(jnp.float32(0.0)) != digest(jnp.float32(-0.0))
  assert digest(jnp.array([True, False])) != digest(jnp.array([False, True]))
  assert digest(jnp.int4([1, -8])) != digest(jnp.int4([1, 7]))
  assert digest(jax.random.key(0)) != digest(jax.random.key(1))
  quiet, loud = np.array([0x7FC00000, 0x7FC00001], np.uint32).view(np.float32)
  assert digest(jnp.asarray(quiet)) != digest(jnp.asarray(loud))
  assert digest(jnp.zeros(3)) != digest(jnp.zeros(4))


@pytest.mark.parametrize("name", ["float32", "bfloat16", "uint32", "int8"])
def test_swapped_elements_change_the_digest(name):
  x, rng = np.asarray(LEAVES[name]), np.random.default_rng(2)
  before, flat = digest(LEAVES[name]), x.reshape(-1)
  for _ in range(40):
    i, j = rng.integers(0, flat.size, 2)
    swapped = flat.copy()
    swapped[[i, j]] = swapped[[j, i]]
    same = flat[i].tobytes() == flat[j].tobytes()
    assert (digest(jnp.asarray(swapped.reshape(x.shape))) == before) == same


def test_swapped_leaves_are_named():
  a, b = LEAVES["float32"], LEAVES["float32"] + 1
  leaf = lambda x: Leaf(x.shape, str(x.dtype), "", digest(x))
  manifest = Manifest(1, 0.0, {"a": leaf(a), "b": leaf(b)}, {}, {}, {})
  integrity.check_leaves(manifest, {"a": a, "b": b})
  with pytest.raises(Damage, match="leaf a differs from its digest"):
    integrity.check_leaves(manifest, {"a": b, "b": a})


def test_names_are_dotted_and_never_meet():
  tree = {"a": {"b": 1}, "c": [2, (3,)]}
  assert integrity.named_leaves(tree) == {"a.b": 1, "c.0": 2, "c.1.0": 3}
  with pytest.raises(CheckpointError, match=r"two leaves of the state are called a\.b"):
    integrity.named_leaves({"a": {"b": 1}, "a.b": 2})


def test_a_manifest_comes_back_and_knows_its_place(tmp_path):
  folder = tmp_path / "12"
  folder.mkdir()
  (folder / "x").write_bytes(b"words")
  leaf = Leaf((2, 3), "float32", "", (1, 2**32 - 1))
  manifest = Manifest(
    12, 1.5, {"a": leaf}, integrity.hash_files(folder), {"plan": "p"}, {"m": 0.1}
  )
  integrity.write_manifest(folder, manifest)
  assert integrity.check_files(folder) == manifest
  folder.rename(tmp_path / "13")
  with pytest.raises(Damage, match="manifest.json is of step 12"):
    integrity.check_files(tmp_path / "13")


def test_what_an_older_or_newer_version_wrote_is_not_damage(tmp_path):
  (tmp_path / "5" / "default").mkdir(parents=True)
  with pytest.raises(CheckpointError, match="5 was written by a unijax before"):
    integrity.read_manifest(tmp_path / "5")
  body = {"format": 99}
  content = {"manifest": body, "sha256": integrity._hash_json(body)}
  (tmp_path / "manifest.json").write_text(json.dumps(content))
  with pytest.raises(CheckpointError, match="has format 99, this unijax reads 1"):
    integrity.read_manifest(tmp_path)
