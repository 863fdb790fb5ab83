"""Every file of configs/, as it stands there: builds, divides, learns by heart.

Found by their place, so that a new config is held to the same without a line here.
`tests/config/test_builds.py` builds the published presets of unified systems.
"""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from tests.conftest import ROOT
from tests.laws import systems
from tests.laws.by_heart import ByHeart
from unijax.commands import sizes
from unijax.train import tasks
from unijax.train.functions import StepFunctions
from unijax.train.metrics import to_scalars

DIVIDED = 4  # configs of one process
ALONE = systems.of_task("codec", "decoder", "alignment", "drawing")
UNIFIED = systems.of_task("unified")


# -- a page each ----------------------------------------------------------------------------

LINES = 60
# base.py lists every knob. transfusion.py has the five sizes of its paper's study, and the
# small recipe and the sources from which most others start. dreamllm.py also takes the
# decoder of a run; showo2.py has an encoder of latents and blocks behind the decoder.
LONGER = {"base.py": 500, "transfusion.py": 115, "dreamllm.py": 85, "showo2.py": 70}


@pytest.mark.parametrize(
  "path",
  [*(ROOT / "configs").glob("*.py"), *(ROOT / "configs/codecs").glob("*.py")],
  ids=lambda p: p.name,
)
def test_a_config_is_read_at_a_glance(path):
  lines = len(path.read_text().splitlines())
  assert lines <= LONGER.get(path.name, LINES), "tighten its docstring, or share"


# -- everything builds ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ALONE)
def test_presets_without_rows_build(name):
  """The published ones; `tiny` also traces its step, and its state keeps its shapes."""
  for preset in sizes.presets(systems.FILES[name]):
    if preset.startswith("tiny-"):
      continue  # some need a run that was trained before
    c = systems.load(name, preset)
    loader = tasks.make_loader(c)
    functions = StepFunctions(c, loader.vocab)
    state = jax.eval_shape(functions.init)
    if preset == "tiny":
      new, metrics = jax.eval_shape(functions.train, state, loader.batch(0))
      shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
      assert shapes(new) == shapes(state)
      assert "loss" in metrics


@pytest.mark.slow
@pytest.mark.parametrize("name", systems.FILES)
def test_sizes_are_the_published_ones(name):
  """Within 1 %, or the docstring says why not."""
  found = sizes.sizes(systems.FILES[name], name)
  assert found, "no preset but tiny"
  for size in found:
    assert size.close or size.explained, size.row()


# -- one device and eight ------------------------------------------------------------------


def groups() -> list[list[str]]:
  names = list(systems.FILES)
  return [names[i : i + DIVIDED] for i in range(0, len(names), DIVIDED)]


@pytest.mark.slow
@pytest.mark.parametrize("names", groups(), ids="+".join)
def test_a_step_is_the_same_on_eight_devices(names, tmp_path):
  out = tmp_path / "losses.json"
  done = subprocess.run(
    [sys.executable, "-m", "tests.laws.systems_on_devices", str(out), *names],
    cwd=ROOT, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-3000:]
  found = json.loads(out.read_text())
  assert set(found) == set(names)
  for name, losses in found.items():
    one, eight = losses["one"], losses["eight"]
    assert eight[0] == pytest.approx(one[0], rel=2e-6), name
    assert one[-1] != one[0], f"{name}: nothing moved: a weak test"
    assert eight == pytest.approx(one, rel=1e-5), name


# -- eight documents by heart --------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", UNIFIED)
def test_a_system_learns_eight_documents_by_heart(name):
  """It says their words and draws their pictures; see `by_heart`."""
  assert not ByHeart(name).learn()


LEARNT = {  # a metric and what it reaches, from where it began
  "drawing": ("image_mse", lambda first, last: last < 0.3 * first),
  "codec": ("psnr", lambda first, last: last > first + 6),
  "decoder": ("image_mse", lambda first, last: last < 0.3 * first),
  "alignment": ("loss", lambda first, last: last < 0.4 * first),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALONE)
def test_eight_pictures_are_learnt_by_heart(name):
  """Those that draw, encode and align: the loss of one batch falls to a part of it."""
  c = systems.load(
    name, train=dict(batch_size=8, ema_decay=0.0),
    optim=dict(schedule="constant", warmup_steps=10),
  )  # fmt: skip
  loader = tasks.make_loader(c)
  functions = StepFunctions(c, loader.vocab)
  batch, state, lines = jax.device_put(loader.batch(0)), functions.init(), []
  metric, reached = LEARNT[c.train.task]
  for _ in range(100):
    state, metrics = functions.train(state, batch)
    lines.append(to_scalars(metrics)[metric])
  assert reached(np.mean(lines[:3]), np.mean(lines[-3:])), lines[::20]
