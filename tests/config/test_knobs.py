"""Law 11: every knob lives, and base.py lists it."""

import dataclasses
import re

from configs import base
from tests.config.reads import reads_of
from tests.conftest import ROOT
from unijax.config import SECTIONS


def test_the_search_for_reads_finds_reads_and_nothing_else():
  text = """
class A:
  config: ModelConfig
  other: DataConfig
  def f(self, o: OptimConfig, x):
    c, n = self.config, x.config.train
    c.depth; o.eps; n.steps; self.config.width; x.sample.top_k; x.config.seed
    y.remat; x.steps; self.config2.heads
def g(c):
  c.qk_norm
"""
  assert reads_of(text) == {
    ("model", "depth"), ("optim", "eps"), ("train", "steps"), ("model", "width"),
    ("sample", "top_k"), ("", "seed"),
  }  # fmt: skip


def test_no_knob_is_dead():
  found = set()
  for path in (ROOT / "unijax").rglob("*.py"):
    if path.stem not in ("config", "config_checks"):  # they look at every knob
      found |= reads_of(path.read_text())
  found |= reads_of(  # derived sizes are read where they are defined
    re.search(r"class Config:.*?\n\n\n", (ROOT / "unijax/config.py").read_text(), re.S)
    .group(0)
  )  # fmt: skip
  knobs = {("", "seed")} | {
    (section, field.name)
    for section, cls in SECTIONS.items()
    for field in dataclasses.fields(cls)
  }
  dead = sorted(".".join(k).strip(".") for k in knobs - found)
  assert not dead, f"nothing in unijax reads {dead} (see Reads for what counts)"


def test_base_lists_every_knob_and_says_why():
  text = (ROOT / "configs" / "base.py").read_text()
  for section, cls in SECTIONS.items():
    for field in dataclasses.fields(cls):
      line = re.search(rf"^  c\.{section}\.{field.name} = .*$", text, re.M)
      assert line, f"configs/base.py does not set {section}.{field.name}"
  c = base.get_config()
  assert set(c) == {"seed", "stages", *SECTIONS} and not c.stages
