"""Law 10 for studies: every point of every sweep builds, at every preset."""

import pathlib

import jax
import pytest

from tests.config.test_builds import presets
from tests.conftest import ROOT
from unijax import config_file
from unijax.config import from_config_dict
from unijax.data.rows import RowBuilder, stack
from unijax.data.sources import make_sources
from unijax.data.tokenizer import make_tokenizer
from unijax.sweep import study
from unijax.train.functions import StepFunctions

FILES = sorted(
  p for p in (ROOT / "configs/studies").glob("[!_]*.py") if p.stem != "common"
)
STUDIES = {  # "mask:tiny" -> what to load; files are named from the root, as points do
  f"{path.stem}:{preset}": f"{path.relative_to(ROOT)}:{preset}"
  for path in FILES
  for preset in presets(path)
}
# Trainings that a study asks for: a number that is not here has not been thought about.
POINTS = {
  "caption_first": 5, "data_schedule": 3, "image_codec": 6, "joint": 3,
  "loss_weight": 5, "mask": 4, "noise_limit": 5, "patch_size": 3, "prediction": 12,
  "sharing": 4, "transfusion_chameleon": 18,
}  # fmt: skip
QUICK = ("image_codec", "joint", "sharing", "transfusion_chameleon")  # built by default


def planned(name: str) -> list:
  """The trials of a study, without counting FLOPs where it spends some."""
  stub = lambda config, flops: ({"flops": flops}, {"train.steps": int(flops**0.25)})
  return study.plan(study.load(STUDIES[name]), budget=stub)


def build(trial) -> None:
  """Traces a training step; its state keeps its form."""
  c = from_config_dict(trial.config)
  builder = RowBuilder(c, make_tokenizer(c.data.tokenizer))
  functions = StepFunctions(c, builder.vocabulary.size)
  state = jax.eval_shape(functions.init)
  row = jax.eval_shape(lambda: stack([builder.row([])]))
  batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((c.train.batch_size, *x.shape[1:]), x.dtype), row
  )
  new, metrics = jax.eval_shape(functions.train, state, batch)
  form = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
  assert form(new) == form(state) and "loss" in metrics, trial.label


@pytest.mark.parametrize("name", STUDIES)
def test_every_point_is_a_valid_config_with_a_baseline(name):
  found = planned(name)
  labels = [t.label for t in found]
  assert len(set(labels)) == len(labels) and "base" not in labels
  groups = {t.group for t in found}
  assert all(t.baseline in groups for t in found), "each has something beside it"
  assert any(t.baseline != t.group for t in found)
  more = 1 if name == "patch_size:0.76B" else 0
  assert len(found) == POINTS[pathlib.Path(name.partition(":")[0]).stem] + more


@pytest.mark.parametrize(
  "path",
  [p if p.stem in QUICK else pytest.param(p, marks=pytest.mark.slow) for p in FILES],
  ids=lambda p: p.stem,
)
def test_a_point_of_every_study_builds(path):
  build(planned(f"{path.stem}:tiny")[-1])


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_every_point_of_every_study_builds(name):
  for trial in planned(name):
    build(trial)


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_documents_of_every_point_fit_its_rows(name):
  seen = set()
  for trial in planned(name):
    if (key := str(trial.config["data"])) in seen:
      continue
    seen.add(key)
    c = from_config_dict(trial.config)
    builder = RowBuilder(c, make_tokenizer(c.data.tokenizer))
    for source, _ in make_sources(c):
      layouts = [builder.layout(source[i], key=i) for i in range(20)]
      assert max(map(len, layouts)) <= c.data.seq_len, trial.label
      assert max(len(x.images) for x in layouts) <= c.data.images_per_row, trial.label


def test_studies_are_configs_too():
  for name, file in STUDIES.items():
    assert config_file.load([f"--config={ROOT / file}"]).train.task == "unified", name
