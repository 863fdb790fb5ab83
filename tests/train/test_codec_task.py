"""Laws of training a codec: parts, meshes, resuming, the adversary, every config."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from tests.conftest import ROOT, environment
from unijax import codecs, config_file
from unijax.checkpoint.start import Start
from unijax.config import ConfigError
from unijax.data.picture_loader import PictureLoader
from unijax.evals import codec as measured
from unijax.evals import reconstruction
from unijax.train import loop, step
from unijax.train.codec_task import perplexity
from unijax.train.functions import StepFunctions
from unijax.train.interrupt import Interrupted
from unijax.train.metrics import read_metrics

ADVERSARY = dict(
  codec__adversary_weight=0.5, codec__adversary_start=2, codec__adversary_width=8,
  codec__adversary_layers=1,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kl", "rvq"])
def test_parts_of_a_batch_add_up(kind):
  c = small.codec(kind, **(ADVERSARY if kind == "kl" else {}))
  f, batch = small.functions(c), PictureLoader(c).batch(0)
  params, key = jax.jit(f.init).__wrapped__().params, jax.random.key(3)
  if "balance" in params:
    params["balance"] = {"steps": jnp.float32(5), "weight": jnp.float32(2)}

  def run(parts):
    grads, metrics = step.gradients(params, f.task, batch, key, parts)
    return grads, f.task.update(params, metrics, key)

  one, two = (
    jax.jit(run, static_argnums=0, compiler_options=small.QUICK)(n) for n in (1, 2)
  )
  for (path, a), b in zip(
    jax.tree.leaves_with_path(one), jax.tree.leaves(two), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6, err_msg=str(path))
  assert "statistics/assigned" not in one[1][1]


def test_a_run_learns_resumes_and_freezes(tmp_path):
  """Interrupted and resumed equals uninterrupted, bit for bit, with the codebook."""
  c = small.codec(
    "vq", train__steps=8, train__eval_every=4, train__sample_every=4, eval__batch_size=4
  )
  straight, _ = loop.train(c, tmp_path / "a", measured.hooks(c))

  def stop(run, state, number):
    if number == 3:
      os.kill(os.getpid(), 2)

  with pytest.raises(Interrupted):
    loop.train(c, tmp_path / "b", [*measured.hooks(c), loop.Hook(3, stop)])
  again, _ = loop.train(c, tmp_path / "b", measured.hooks(c), Start("must"))
  jax.tree.map(
    np.testing.assert_array_equal, jax.device_get(straight), jax.device_get(again)
  )
  lines = [x for x in read_metrics(tmp_path / "a") if "train/psnr" in x]
  assert lines[-1]["train/psnr"] > lines[0]["train/psnr"]
  assert all("train/perplexity" in x for x in lines)
  one, other = (codecs.open_codec(str(tmp_path / n)) for n in "ab")
  assert one.identity == other.identity and one.codebook == 8
  assert (tmp_path / "a" / "samples" / "0000008.png").is_file()
  figures = measured.evaluate(
    str(tmp_path / "a"), None, None, {"items": 4, "split": None}
  )
  assert figures["psnr"] > 5 and 0 < figures["codes_used"] <= 1
  assert "Reconstructions" in (tmp_path / "a" / "report.html").read_text()


@pytest.mark.slow
def test_the_adversary_counts_from_its_step():
  c = small.codec("kl", optim__weight_decay=0.0, **ADVERSARY)
  f, batch = small.functions(c), PictureLoader(c).batch(0)
  state, seen = f.init(), []
  for _ in range(4):
    before = state.params["adversary"]
    before = jax.tree.map(jnp.copy, before)
    state, metrics = f.train(state, f.place(batch))
    moved = [
      bool((a != b).any())
      for a, b in zip(
        jax.tree.leaves(before), jax.tree.leaves(state.params["adversary"]), strict=True
      )
    ]
    seen.append(any(moved))
  assert seen == [False, False, True, True]
  balance = float(metrics["adversary_balance"].total)
  assert balance > 0 and float(state.params["balance"]["weight"]) == balance


@pytest.mark.slow
def test_each_side_has_the_gradient_of_its_own_loss():
  """And the adversary's pull on the last kernel is made as large as the error's."""
  c = small.codec("kl", codec__kl_weight=0.0, **ADVERSARY)
  f, batch = small.functions(c), PictureLoader(c).batch(0)
  task, key = f.task, jax.random.key(3)
  params = jax.jit(f.init).__wrapped__().params
  params["balance"] = {"steps": jnp.float32(5), "weight": jnp.float32(2)}
  x = batch.pixels_BHWC.astype(np.float32) / 127.5 - 1.0
  keys = jax.vmap(lambda k: jax.random.fold_in(key, k))(batch.key_B)
  judge = lambda weights, x: task.discriminator.apply({"params": weights}, x)

  def own(codec):
    pixels = task.model.apply({"params": codec}, x, keys).pixels_BHWC
    error = (
      c.codec.l1_weight * jnp.abs(pixels - x) + c.codec.l2_weight * (pixels - x) ** 2
    )
    return error.mean(), -judge(params["adversary"], pixels).mean(), pixels

  def told(weights):
    fake, real = judge(weights, own(params["codec"])[2]), judge(weights, x)
    return 0.5 * (jax.nn.relu(1 - real).mean() + jax.nn.relu(1 + fake).mean())

  def everything(params):
    found = jax.grad(lambda p: task.loss(p, batch, key)[0])(params)
    sides = [jax.grad(lambda p, i=i: own(p)[i])(params["codec"]) for i in (0, 1)]
    moved, _ = task.update(params, task.loss(params, batch, key)[1], key)
    return found, sides, jax.grad(told)(params["adversary"]), moved["balance"]

  found, (error, fool), adversary, balance = jax.jit(
    everything, compiler_options=small.QUICK
  )(params)
  near = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6)
  jax.tree.map(near, found["adversary"], adversary)
  pulled = jax.tree.map(lambda e, a: e + 0.5 * 2.0 * a, error, fool)
  jax.tree.map(near, found["codec"], pulled)
  assert not any(jax.tree.leaves(found["balance"]))
  length = lambda g: jnp.linalg.norm(g["decoder"]["last"]["conv"]["kernel"])
  near(balance["weight"], length(error) / (length(fool) + 1e-4))


def test_perplexity_is_the_number_of_codes_in_use():
  counts = jnp.asarray([[5.0, 5.0, 5.0, 5.0], [9.0, 0.0, 9.0, 0.0]])
  assert perplexity(counts) == pytest.approx((4 + 2) / 2)


CHILD = """
import sys, json, hashlib
from tests import devices
devices.simulate(8)
import jax, numpy as np
from tests import small, conftest
from tests.scale import on_devices
from unijax.data.picture_loader import PictureLoader
from unijax.scale.mesh import make_mesh
from unijax.train.functions import StepFunctions
c = small.codec("vq", train__batch_size=8, mesh__preset="dp", mesh__replica=2, mesh__fsdp=4)
loader, found = PictureLoader(c), []
for mesh in (None, make_mesh(c.mesh)):
  f = StepFunctions(c, 0, mesh)
  state = f.init()
  for i in range(3):
    state, metrics = f.train(state, f.place(loader.batch(i)))
  quantizer = jax.device_get(state.params["codec"]["bottleneck"]["quantizer"])
  found.append({k: np.asarray(v).tolist() for k, v in quantizer.items()})
print("FOUND " + json.dumps(found))
"""


@pytest.mark.slow
def test_codebooks_are_the_same_on_eight_devices():
  run = subprocess.run(
    [sys.executable, "-c", CHILD], cwd=ROOT, env=environment(8), text=True,
    capture_output=True,
  )  # fmt: skip
  assert run.returncode == 0, run.stderr[-3000:]
  one, eight = json.loads(run.stdout.split("FOUND ")[1])
  np.testing.assert_allclose(one["codebook"], eight["codebook"], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(one["uses"], eight["uses"], rtol=1e-6)


FILES = sorted(
  p
  for p in (ROOT / "configs/codecs").glob("*.py")
  if p.stem not in ("common", "__init__")
)
PUBLISHED = {  # of the autoencoder: stabilityai/sd-vae-ft-mse, showlab/magvitv2
  ("kl", "4"): 83_653_863, ("lfq", "8192"): 95_387_004,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda p: p.stem)
def test_every_codec_config_builds(file):
  with pytest.raises(ConfigError, match="known: ") as error:
    config_file.load([f"--config={file}:none"])
  presets = str(error.value).partition("known: ")[2].split(", ")
  assert presets[0] == "tiny" and len(presets) > 1
  for preset in presets:
    c = config_file.load([f"--config={file}:{preset}"])
    f = StepFunctions(c, 0)
    state = jax.eval_shape(f.init)
    size = (c.train.batch_size, c.data.image_size, c.data.image_size, 3)
    batch = type(f.task.batch_axes())(
      jax.ShapeDtypeStruct(size, jnp.uint8), jax.ShapeDtypeStruct(size[:1], jnp.uint32)
    )
    new, metrics = jax.eval_shape(f.train, state, batch)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    assert {metric for _, metric in f.task.shown} <= set(metrics)
    count = sum(x.size for x in jax.tree.leaves(state.params["codec"]))
    if (file.stem, preset) in PUBLISHED:
      assert count == PUBLISHED[file.stem, preset]


@pytest.mark.parametrize(
  ("knobs", "message"),
  [
    (dict(codec__groups=3), "codec.groups: 3 must divide codec.width 8"),
    (dict(codec__multipliers=(1,) * 7), "data.image_size: 32 must be a multiple of 64"),
    (dict(codec__decoder_multipliers=(1, 3), codec__groups=16), "codec.groups: 16"),
    (dict(codec__blocks=(1, 1, 1)), r"codec.blocks: \(1, 1, 1\) .* has 2 levels"),
    (dict(codec__blocks=(0,)), "codec.blocks: .* whole numbers > 0"),
    (dict(codec__decoder_blocks=(2,)), "codec.decoder_blocks: .* or one a level"),
    (dict(codec__decoder_multipliers=(1,)), "codec.decoder_multipliers: .* one a level"),
    (dict(codec__attention_levels=(2,)), "codec.attention_levels: .* of 0 .. 1"),
    (dict(codec__attention_levels=(0, 0)), "codec.attention_levels: .* different"),
    (dict(codec__project=False, codec__project_width=4), "codec.project_width: 4 is not"),
    (dict(codec__levels=(5, 4)), "codec.levels: .* as many as codec.channels=3"),
    (dict(codec__multipliers=(1, 0.5)), "codec.multipliers: expected int, got float 0.5"),
    (dict(codec__l1_weight=0.0), "l1_weight, codec.l2_weight: one must be > 0"),
    (dict(data__mixture="linear"), "data.mixture: 'linear' changes packed rows"),
  ],
)  # fmt: skip
def test_knobs_that_clash(knobs, message):
  with pytest.raises(ConfigError, match=message):
    small.codec("fsq", **knobs)


def test_psnr_and_ssim_of_known_pictures():
  x = np.random.default_rng(0).integers(0, 236, (2, 32, 32, 3)).astype(np.uint8)
  assert reconstruction.psnr(x, x) == pytest.approx(100, abs=0.1)
  np.testing.assert_allclose(
    reconstruction.psnr(x, x + 10), 10 * np.log10(255**2 / 100)
  )
  np.testing.assert_allclose(reconstruction.ssim(x, x), 1.0)
  flat = np.full_like(x, 100)
  want = (2 * 100 * 120 + 6.5025) / (100**2 + 120**2 + 6.5025)  # means alone differ
  np.testing.assert_allclose(reconstruction.ssim(flat, flat + 20), want, rtol=1e-6)
