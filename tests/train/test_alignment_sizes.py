"""Every config of encoders builds at its published size."""

import re

import jax
import pytest

from configs import clip, eva_clip, qformer, siglip
from tests import small
from tests.conftest import ROOT
from unijax import config_file
from unijax.config import ConfigError

FILES = {"clip": clip, "siglip": siglip, "eva_clip": eva_clip, "qformer": qformer}
PUBLISHED = {
  "clip:B-32": 151_277_313, "clip:B-16": 149_620_737, "clip:L-14-336": 427_944_193,
  "siglip:so400m-14-384": 877_960_498, "eva_clip:B-16": 149_691_137,
  "eva_clip:L-14-336": 428_083_137, "eva_clip:g-14": 1_136_435_841,
  "eva_clip:bigE-14-plus": 5_044_889_089, "qformer:base": None,
}  # fmt: skip


def names() -> list[str]:
  found = []
  for stem in FILES:
    with pytest.raises(ConfigError) as error:
      config_file.load([f"--config={ROOT}/configs/{stem}.py:no such preset"])
    known = re.search(r"known: (.*)", str(error.value)).group(1).split(", ")
    # That of a run which was trained before is built in test_alignment.py.
    found += [f"{stem}:{preset}" for preset in known if preset != "tiny-distill"]
  return found


def count(tree) -> int:
  return sum(x.size for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", names())
def test_every_config_builds_at_its_published_size(name):
  stem, _, preset = name.partition(":")
  c = config_file.load([f"--config={ROOT}/configs/{stem}.py:{preset}"])
  state, metrics = small.traced(c)
  assert "loss" in metrics
  if preset.startswith("tiny"):
    assert count(state.params) < 1.3e6
  elif stem != "qformer":
    assert count(state.params) == PUBLISHED[name]
  else:
    former = state.params["qformer"]
    total = count(state.params) - count(state.params["vision"])
    assert total == pytest.approx(188e6, rel=0.01)
    text = {k: v for k, v in former.items() if k.startswith(("word_", "match_"))}
    only = ("embedding", "position", "query", "feature_norm")
    blocks = jax.tree_util.tree_leaves_with_path(former["groups"])
    written = [x for path, x in blocks if "text_mlp" in jax.tree_util.keystr(path)]
    rest = count(text) + count([former[k] for k in only]) + count(written)
    assert count(former) - rest == 105_137_664
    assert f"{total:,}" in qformer.__doc__


def test_the_tables_name_all_published_sizes():
  assert set(PUBLISHED) == {n for n in names() if ":tiny" not in n}
  for name, parameters in PUBLISHED.items():
    stem, _, preset = name.partition(":")
    if parameters:
      assert FILES[stem].PUBLISHED[preset] == parameters
