"""Laws 10 and 11: every config builds, every knob lives, every mistake is named."""

import ast
import copy
import dataclasses
import importlib
import json
import pathlib
import re
import time

import jax
import numpy as np
import pytest

from configs import base, transfusion
from tests import small
from tests.conftest import ROOT
from unijax import config as config_lib
from unijax import config_file
from unijax.config import SECTIONS, Config, ConfigError, from_config_dict, to_dict
from unijax.data.rows import RowBuilder, stack
from unijax.data.sources import make_sources
from unijax.data.tokenizer import make_tokenizer
from unijax.infer.functions import SampleFunctions
from unijax.train.functions import StepFunctions
from unijax.write import WRITE_PATHS


def task_of(path: pathlib.Path) -> str:
  """What the runs of a config file train; the others have tests of their own."""
  return importlib.import_module(f"configs.{path.stem}").get_config().train.task


FILES = sorted(
  p
  for p in (ROOT / "configs").glob("*.py")
  if p.stem not in ("base", "__init__") and task_of(p) == "unified"
)


def presets(path: pathlib.Path) -> list[str]:
  """What `--config=FILE:preset` accepts, from the error of a wrong one."""
  with pytest.raises(ConfigError) as error:
    config_file.load([f"--config={path}:no such preset"])
  return re.search(r"known: (.*)", str(error.value)).group(1).split(", ")


CONFIGS = [f"{path.relative_to(ROOT)}:{p}" for path in FILES for p in presets(path)]


# -- every config builds -----------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_builds_its_train_step_in_seconds(name):
  c = config_file.load([f"--config={ROOT / name}"])
  began = time.monotonic()
  builder = RowBuilder(c, make_tokenizer(c.data.tokenizer))
  functions = StepFunctions(c, builder.vocabulary.size)
  SampleFunctions(c, builder.vocabulary)
  state = jax.eval_shape(functions.init)
  row = jax.eval_shape(lambda: stack([builder.row([])]))
  batch = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((c.train.batch_size, *x.shape[1:]), x.dtype), row
  )
  new, metrics = jax.eval_shape(functions.train, state, batch)
  assert jax.tree.map(lambda x: (x.shape, x.dtype), new) == jax.tree.map(
    lambda x: (x.shape, x.dtype), state
  )
  path = WRITE_PATHS[c.model.write]
  assert {"loss", "text_nll", path.metric} <= set(metrics)
  assert time.monotonic() - began < 30


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_has_sources_whose_documents_fit(name):
  c = config_file.load([f"--config={ROOT / name}"])
  builder = RowBuilder(c, make_tokenizer(c.data.tokenizer))
  for source, _ in make_sources(c):
    layouts = [builder.layout(source[i], key=i) for i in range(20)]
    assert max(map(len, layouts)) <= c.data.seq_len
    assert max(len(x.images) for x in layouts) <= c.data.images_per_row


PUBLISHED = {  # parameters in billions: of the blocks; with 32,000 tokens in and out
  "0.16B": (0.113, 0.162),
  "0.37B": (0.308, 0.374),
  "0.76B": (0.680, 0.778),
  "1.4B": (1.233, 1.364),
  "7B": (6.476, 6.738),
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_sizes_of_the_paper(size):
  c = config_file.load([f"--config={ROOT}/configs/transfusion.py:{size}"])
  params = jax.eval_shape(StepFunctions(c, 32_000).init).params
  count = lambda tree: sum(np.prod(x.shape, dtype=float) for x in jax.tree.leaves(tree))  # noqa: E731
  blocks, total = PUBLISHED[size]
  assert count(params["transformer"]["blocks"]) / 1e9 == pytest.approx(blocks, rel=0.01)
  tables = count(params["embedding"]) + count(params["text_head"])
  assert (count(params["transformer"]) + tables) / 1e9 == pytest.approx(total, rel=0.01)
  rest = count(params) - count(params["transformer"]) - tables
  assert rest < 0.02 * total * 1e9  # patches and time
  assert set(PUBLISHED) == set(transfusion.SIZES)


@pytest.mark.parametrize(
  ("name", "tokens", "published"),
  [
    ("chameleon.py:7B", 65_536, 7_043_090_432),  # the image encoder is counted there
    ("chameleon.py:34B", 65_536, 34_323_732_480),
    ("showo.py:1.3B", 58_504, 1_448_176_770),
  ],
)
def test_sizes_of_discrete_systems(name, tokens, published):
  c = config_file.load([f"--config={ROOT}/configs/{name}"])
  params = jax.eval_shape(StepFunctions(c, tokens).init).params
  count = sum(np.prod(x.shape, dtype=float) for x in jax.tree.leaves(params))
  assert count == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize(
  ("name", "tokens", "published"),
  [
    ("emu2.py:33B", 32_000, 32_528_943_616),  # LLaMA-33B
    ("metamorph.py:8B", 128_256, 8_030_261_248),  # LLaMA-3-8B
    ("dreamllm.py:7B", 32_000, 6_738_415_616),  # Vicuna-7B
    ("next_gpt.py:7B", 32_000, 6_738_415_616),
    ("metaquery.py:0.5B", 151_936, 494_032_768),  # Qwen2-0.5B
    ("metaquery.py:7B", 152_064, 7_615_616_512),  # Qwen2.5-7B
  ],
)
def test_sizes_of_language_models_with_a_decoder_of_pictures_apart(
  name, tokens, published
):
  c = config_file.load([f"--config={ROOT}/configs/{name}"])
  assert c.data.vocab == tokens
  params = jax.eval_shape(StepFunctions(c, tokens).init).params
  params = {k: v for k, v in params.items() if k != "bridge"}
  count = sum(np.prod(x.shape, dtype=float) for x in jax.tree.leaves(params))
  assert count == pytest.approx(published, rel=0.01)


# -- no knob is dead ---------------------------------------------------------------------


class Reads(ast.NodeVisitor):
  """Collects (section, knob) pairs that code reads.

  Follows `anything.section.knob`, names assigned from `anything.section`, arguments and
  class attributes annotated with a section's class. A read that it cannot follow, such
  as getattr, does not count.
  """

  CLASSES = {cls.__name__: section for section, cls in SECTIONS.items()}
  SHARED = {"TowerConfig": ("vision", "text")}  # what is read of it is read of both
  CLASSES |= {name: name for name in SHARED}

  def __init__(self):
    self.found: set[tuple[str, str]] = set()
    self.names: list[dict[str, str]] = [{}]  # of each open scope
    self.attributes: dict[str, str] = {}  # self.NAME of the open class
    self.classes: dict[str, dict[str, str]] = {}  # of those that were seen

  def section(self, node) -> str | None:
    """The section that an expression is, if any."""
    if isinstance(node, ast.Name):
      return next((s[node.id] for s in reversed(self.names) if node.id in s), None)
    if isinstance(node, ast.Attribute):
      if isinstance(node.value, ast.Name) and node.value.id == "self":
        if node.attr in self.attributes:
          return self.attributes[node.attr]
      return node.attr if node.attr in SECTIONS else None
    return None

  def visit_ClassDef(self, node):
    before, self.attributes = self.attributes, {}
    for parent in node.bases:  # of the same file, which come before
      if isinstance(parent, ast.Name):
        self.attributes |= self.classes.get(parent.id, {})
    for item in node.body:
      if isinstance(item, ast.AnnAssign) and isinstance(item.annotation, ast.Name):
        if item.annotation.id in self.CLASSES:
          self.attributes[item.target.id] = self.CLASSES[item.annotation.id]
    self.generic_visit(node)
    self.classes[node.name] = self.attributes
    self.attributes = before

  def visit_FunctionDef(self, node):
    arguments = [*node.args.args, *node.args.kwonlyargs]
    self.names.append(
      {
        a.arg: self.CLASSES[a.annotation.id]
        for a in arguments
        if isinstance(a.annotation, ast.Name) and a.annotation.id in self.CLASSES
      }
    )
    self.generic_visit(node)
    self.names.pop()

  def visit_Assign(self, node):
    target, value = node.targets[0], node.value
    pairs = [(target, value)]
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
      pairs = list(zip(target.elts, value.elts, strict=False))
    for to, of in pairs:
      if isinstance(to, ast.Name) and self.section(of):
        self.names[-1][to.id] = self.section(of)
    self.generic_visit(node)

  def visit_Attribute(self, node):
    section = self.section(node.value)
    for one in self.SHARED.get(section, [section] if section else []):
      self.found.add((one, node.attr))
    if node.attr == "seed" and ast.unparse(node.value).split(".")[-1] == "config":
      self.found.add(("", "seed"))
    self.generic_visit(node)


def reads_of(text: str) -> set[tuple[str, str]]:
  reads = Reads()
  reads.visit(ast.parse(text))
  return reads.found


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


# -- every mistake is named --------------------------------------------------------------


def problems(change) -> list[str]:
  """The lines of the error for a config after `change(nested dict)`."""
  values = copy.deepcopy(to_dict(small.config()))
  change(values)
  with pytest.raises(ConfigError) as error:
    from_config_dict(values)
  first, *lines = str(error.value).splitlines()
  plural = "s" if len(lines) > 1 else ""
  assert first == f"{len(lines)} problem{plural} in the config:"
  return [line.strip() for line in lines]


def test_all_problems_are_listed_at_once():
  def change(v):
    v["model"]["widht"] = 3
    v["model"]["depth"] = 2.5
    v["model"]["positions"] = "gird"
    v["model"]["qk_norm"] = 1
    v["optim"]["learning_rate"] = "fast"
    v["optim"]["eps"] = float("nan")
    v["trian"] = {}
    del v["data"]["window"]
    v["data"]["sources"]["scenes"]["wieght"] = 1.0
    v["seed"] = None

  found = problems(change)
  want = [
    "trian: unknown knob (did you mean 'train'?)",
    "seed: expected int, got NoneType None",
    "model.widht: unknown knob (did you mean 'width'?)",
    "model.depth: expected int, got float 2.5",
    "model.positions: 'gird' is not one of sequential, shared, grid (did you mean 'grid'?)",
    "model.qk_norm: expected bool, got int 1",
    "data.window: missing (configs start from configs/base.py)",
    "data.sources.scenes.wieght: unknown knob (did you mean 'weight'?)",
    "optim.learning_rate: expected float, got str 'fast'",
    "optim.eps: nan is not a finite number",
  ]
  assert found == want


def test_sections_of_the_wrong_shape():
  def change(v):
    v["model"] = 3
    v["data"]["sources"] = {"a": 1, "b": {"kind": 2, "weight": 1, "options": []}}

  found = problems(change)
  assert "model: expected named values, got 3" in found
  assert "data.sources.a: expected named values, got 1" in found
  assert "data.sources.b.kind: expected str, got int 2" in found
  assert "data.sources.b.options: expected named values, got []" in found


@pytest.mark.parametrize(
  ("path", "value", "message"),
  [
    ("model.depth", 0, "model.depth: 0 must be > 0"),
    ("model.kv_heads", 4, "model.kv_heads: 4 must divide model.heads 2"),
    ("model.scan_unroll", 3, "model.scan_unroll: 3 must divide model.depth 2"),
    ("model.head_dim", 15, "model.head_dim: 15 must be a multiple of 2 for "
     "model.positions='sequential'"),
    ("data.image_size", 5, "data.image_size: 5 must be a multiple of 2 "
     "(codec stride x data.patch_size)"),
    ("data.seq_len", 7, "data.seq_len: 7 cannot hold one image (4 patches of 2 px make "
     "8 positions)"),
    ("data.codec", "pixel", "data.codec: unknown 'pixel' (did you mean 'pixels'?)"),
    ("data.noise_limit", 1.5, "data.noise_limit: 1.5 must be in [0, 1]"),
    ("data.sources", {}, "data.sources: name at least one source"),
    ("optim.b2", 1.0, "optim.b2: 1.0 must be in [0, 1)"),
    ("diffusion.time_max", 0.0, "diffusion.time_max: 0.0 must be in (0, 1]"),
    ("train.z_loss", -1.0, "train.z_loss: -1.0 must be >= 0"),
    ("train.log_every", 0, "train.log_every: 0 must be > 0"),
    ("sample.guidance_low", 2.0, "sample.guidance_low: 2.0 must be in [0, 1]"),
    ("eval.batch_size", 0, "eval.batch_size: 0 must be > 0"),
    ("guard.spike_factor", 0.5, "guard.spike_factor: 0.5 must be 0 (off) or > 1"),
    ("guard.patience", 0, "guard.patience: 0 must be > 0"),
  ],
)  # fmt: skip
def test_ranges_and_sizes_that_do_not_fit(path, value, message):
  section, _, name = path.partition(".")
  assert problems(lambda v: v[section].update({name: value})) == [message]


@pytest.mark.parametrize(
  ("write", "model", "data", "message"),
  [
    ("codes", {}, {"codec": "blocks"}, "model.image_mask: 'bidirectional' would show a "
     "position what model.write='codes' predicts there: use 'causal'"),
    ("gmm", {}, {"codec": "pixels"}, "model.image_mask: 'bidirectional' would show a "
     "position what model.write='gmm' predicts there: use 'causal'"),
    ("masked", {}, {"codec": "pixels"}, "model.write: 'masked' writes codes, and "
     "data.codec='pixels' has none: use a codec with a codebook, such as 'blocks', or "
     "model.write='diffusion'"),
    ("masked", {}, {"codec": "blocks", "patch_size": 2}, "data.patch_size: 2 must be 1 "
     "with model.write='masked', which has one code a latent"),
    ("masked", {"time_injection": "token"}, {"codec": "blocks"}, "model.time_injection: "
     "'token' has no timestep to carry with model.write='masked': leave it at 'add'"),
    ("gmm", {"image_mask": "causal", "patch_codec": "unet"}, {"codec": "pixels"},
     "model.patch_codec: 'unet' mixes the patches of an image by their timestep, which "
     "model.write='gmm' does not have: use 'linear'"),
  ],
)  # fmt: skip
def test_ways_to_write_that_lack_something(write, model, data, message):
  def change(v):
    v["model"].update(write=write, **model)
    v["data"].update({"patch_size": 1, "image_size": 8, **data})
    v["data"]["seq_len"] = 128

  assert problems(change) == [message]


@pytest.mark.parametrize(
  ("write", "model", "data", "message"),
  [
    ("codes", {"image_mask": "causal"}, {"codec": "blocks"}, "data.clean_copy: with "
     "model.write='codes' an image is read as it is, and there is no noised one to put "
     "a clean copy beside: use False, or model.write='diffusion' or 'masked'"),
    ("bridge", {}, {}, "data.clean_copy: with model.write='bridge' an image is read as "
     "it is, and there is no noised one to put a clean copy beside: use False, or "
     "model.write='diffusion' or 'masked'"),
    ("diffusion", {"attention": "splash"}, {}, "model.attention: 'splash' computes "
     "intervals, and with data.clean_copy=True the mask is none: use 'dense', which is "
     "exact and slower"),
  ],
)  # fmt: skip
def test_clean_copies_that_cannot_be(write, model, data, message):
  def change(v):
    v["model"].update(write=write, **model)
    v["data"].update({"patch_size": 1, "image_size": 8, "seq_len": 128, **data})
    v["data"]["clean_copy"] = True

  assert problems(change) == [message]


def test_pairs_of_sizes():
  def change(v):
    v["model"].update(positions="grid", head_dim=18, patch_codec="unet")
    v["data"].update(image_size=12, patch_size=6)
    v["sample"].update(guidance_low=0.9, guidance_high=0.1)
    v["data"]["sources"]["scenes"]["weight"] = -1.0

  assert problems(change) == [
    "model.head_dim: 18 must be a multiple of 4 for model.positions='grid'",
    "data.sources: weights must be >= 0 and not all zero",
    "data.patch_size: 6 must be a power of 2 for a U-Net",
    "sample.guidance_low: must not exceed sample.guidance_high",
  ]


@pytest.mark.parametrize(
  ("knobs", "message"),
  [
    (dict(experts=4, experts_per_token=5), "experts_per_token: 5 of 4 experts"),
    (
      dict(experts=4, experts_per_token=3, expert_routing="by_modality"),
      "experts_per_token: 3 of 2 experts",
    ),
    (dict(experts=5, expert_routing="by_modality"), "experts: 5 must be even"),
    (dict(experts_per_token=1), "use 'all', or model.experts_per_token > 1"),
  ],
)
def test_routed_experts_that_cannot_be(knobs, message):
  named = {f"model__{name}": value for name, value in knobs.items()}
  with pytest.raises(ConfigError, match=message):
    small.config(model__sharing="experts", **named)
  small.config(**named)  # nobody reads them: no problem


@pytest.mark.parametrize(
  ("knobs", "message"),
  [
    (dict(model__read="fused"), "have other places than its 2 x 2 patches"),
    (
      dict(model__read="fused", vision__patch_size=2),
      "data.noise_limit: 1.0 makes context images targets, too",
    ),
    (dict(model__read="both", vision__patch_size=3), "a multiple of vision.patch_size"),
    (dict(model__read="features", vision__heads=3), "vision.heads: 3 must divide"),
    (
      dict(model__connector="shuffle", vision__patch_size=4, model__read="features"),
      "give 1 a side: make that even",
    ),
    (
      dict(model__connector="resampler", model__positions="grid", model__read="both"),
      "model.positions: 'grid' needs places",
    ),
    (
      dict(model__connector="resampler", model__connector_queries=61,
           model__read="features"),
      "data.seq_len: 64 cannot hold the 61 features of one image",
    ),
    (
      dict(model__read="both", data__images_per_row=1),
      "data.images_per_row: 1 cannot hold an image that is read twice",
    ),
  ],
)  # fmt: skip
def test_ways_to_read_that_do_not_fit(knobs, message):
  named = {"vision__patch_size": 1, **knobs}
  with pytest.raises(ConfigError, match=message):
    small.config(**named)
  small.config(**{**named, "model__read": "patches"})  # nobody reads them: no problem


def test_schedules_of_weights():
  def change(v):
    v["data"]["mixture"] = "linear"
    scenes = v["data"]["sources"]["scenes"]
    v["data"]["sources"] = {
      "a": {**scenes, "schedule": [[5, 1.0], [5, 2.0]], "reference": 2.0},
      "b": {**scenes, "schedule": [[0, 1.0], [5, -2.0]]},
      "c": {**scenes, "schedule": []},
    }

  assert problems(change) == [
    "data.sources.a.schedule: steps must rise from above 0, got [5, 5]",
    "data.sources.a.reference: read only with data.mixture='loss'",
    "data.sources.b.schedule: steps must rise from above 0, got [0, 5]",
    "data.sources.b.schedule: weights must be >= 0",
  ]

  def other(v):
    v["data"]["sources"]["scenes"]["schedule"] = [[5, 1.0]]

  found = problems(lambda v: v["data"].update(mixture="loss"))
  assert len(found) == 1 and "scenes.reference: data.mixture='loss' needs" in found[0]
  message = "schedule: read only with data.mixture 'step' or 'linear'"
  assert problems(other) == [f"data.sources.scenes.{message}"]
  assert problems(lambda v: v["data"].update(mixture="step")) == [
    "data.mixture: 'step' needs a schedule in one of data.sources"
  ]
  for wrong, text in ((3, "3"), ([[1]], "[[1]]"), ([[1.5, 2.0]], "float 1.5")):
    found = problems(
      lambda v, w=wrong: v["data"]["sources"]["scenes"].update(schedule=w)
    )
    assert found[0].startswith(
      "data.sources.scenes.schedule: expected"
    ) and text in str(found)


def test_a_mixture_without_weight_at_some_step():
  def change(v):
    v["data"]["mixture"] = "step"
    scenes = v["data"]["sources"]["scenes"]
    v["data"]["sources"] = {
      "a": {**scenes, "weight": 0.0, "schedule": [[9, 1.0]]},
      "b": {**scenes, "weight": 1.0, "schedule": [[5, 0.0]]},
    }

  assert problems(change) == ["data.sources: at step 5 all weights are zero"]
  values = copy.deepcopy(to_dict(small.config()))
  change(values)
  values["data"]["mixture"] = "linear"  # the first is half way up at step 5
  assert from_config_dict(values).data.sources[0].weight_at(5, True) == 5 / 9


def test_a_scheduled_config_survives_being_written_and_read():
  values = to_dict(small.config())
  values["data"]["mixture"] = "step"
  values["data"]["sources"]["scenes"]["schedule"] = [[5, 0.5], [9, 2]]
  c = from_config_dict(values)
  assert c.data.sources[0].schedule == ((5, 0.5), (9, 2.0))
  assert from_config_dict(to_dict(c)) == c


def in_stages(v, **more):
  """Two stages, of 2 and 3 steps, in a nested dict."""
  v["train"].update(stages=["one", "two"], steps=0)
  v["stages"] = {"two": {"steps": 3}, "one": {"steps": 2}}
  for name, entry in more.items():
    v["stages"][name].update(entry)


def staged(**more) -> Config:
  values = copy.deepcopy(to_dict(small.config()))
  in_stages(values, **more)
  return from_config_dict(values)


def test_stages_stand_in_their_order_and_change_what_they_say():
  scenes = {"weight": 2, "text_loss": 0.5}
  one = {"optim": {"freeze": ["embedding/*"], "rates": [["*bias", 2]], "schedule": "linear"},
         "train": {"z_loss": 1}, "diffusion": {"time_shift": 3.0},
         "data": {"sources": {"scenes": scenes}}}  # fmt: skip
  c = staged(one=one)
  assert c.train.steps == 5 and c.starts == (0, 2)
  assert [c.stage_of(step) for step in range(6)] == [0, 0, 1, 1, 1, 1]
  first, second = c.at(0), c.at(1)
  assert (first.train.steps, second.train.steps) == (2, 3)
  assert first.stages == second.stages == first.train.stages == ()
  assert first.optim.freeze == ("embedding/*",) and first.optim.rates == (
    ("*bias", 2.0),
  )
  assert first.optim.schedule == "linear" and first.train.z_loss == 1.0
  assert first.diffusion.time_shift == 3.0
  assert (first.data.sources[0].weight, first.data.sources[0].text_loss) == (2.0, 0.5)
  plain = from_config_dict(to_dict(small.config(train__steps=3)))
  assert second == plain and plain.at(0) is plain and plain.starts == (0,)
  assert from_config_dict(json.loads(json.dumps(to_dict(c)))) == c
  other = to_dict(c)
  other["train"]["stages"] = ["two", "one"]
  assert config_lib.difference(to_dict(c), other) == [
    "train.stages: ['one', 'two'] -> ['two', 'one']"
  ]


@pytest.mark.parametrize(
  ("one", "message"),
  [
    ({"optm": {}}, "stages.one.optm: unknown knob (did you mean 'optim'?)"),
    ({"optim": {"lerning_rate": 1.0}},
     "stages.one.optim.lerning_rate: unknown knob (did you mean 'learning_rate'?)"),
    ({"optim": {"name": "muon"}}, "stages.one.optim.name: a stage cannot change it, only "),
    ({"train": {"z_loss": "no"}}, "stages.one.train.z_loss: expected float, got str 'no'"),
    ({"train": {"z_loss": -1.0}}, "stages.one: train.z_loss: -1.0 must be >= 0"),
    ({"steps": 0}, "stages.one.steps: 0 must be > 0"),
    ({"optim": {"rates": [["a", 0.0]]}}, "stages.one: optim.rates of 'a': 0.0 must be > 0"),
    ({"optim": {"rates": [["a"]]}}, "stages.one.optim.rates: expected 2 values, got ('a',)"),
    ({"optim": {"freeze": "a"}}, "stages.one.optim.freeze: expected a tuple, got 'a'"),
    ({"data": {"sources": {"scene": {}}}},
     "stages.one.data.sources.scene: no such source (did you mean 'scenes'?)"),
    ({"data": {"sources": {"scenes": {"wait": 1.0}}}},
     "stages.one.data.sources.scenes.wait: unknown knob (did you mean 'weight'?)"),
    ({"data": {"sources": {"scenes": {"weight": 0.0}}}},
     "stages.one: data.sources: weights must be >= 0 and not all zero"),
  ],
)  # fmt: skip
def test_mistakes_in_a_stage(one, message):
  found = problems(lambda v: in_stages(v, one=one))
  assert len(found) == 1 and found[0].startswith(message), found


def test_mistakes_between_stages():
  def change(v, **knobs):
    in_stages(v)
    for name, value in knobs.items():
      section, _, knob = name.partition("__")
      v[section][knob] = value

  for knobs, message in (
    ({"train__stages": ["one", "tow"]},
     "train.stages: unknown stage 'tow' (did you mean 'two'?)"),
    ({"train__stages": ["one", "one"]}, "train.stages: ('one', 'one') names a stage twice"),
    ({"train__stages": []}, "train.stages: () names none of the stages two, one"),
    ({"train__steps": 7}, "train.steps: 7, but the stages one, two have 5 together"),
  ):  # fmt: skip
    found = problems(lambda v, knobs=knobs: change(v, **knobs))
    assert len(found) == 1 and found[0].startswith(message), found
  found = problems(lambda v: v["train"].update(stages=["one"]))
  assert found == ["train.stages: unknown stage 'one'; stages has none"]
  weight = {"data": {"sources": {"scenes": {"weight": 2.0}}}}

  def scheduled(v):
    in_stages(v, one=weight)
    v["data"]["mixture"] = "step"
    v["data"]["sources"]["scenes"]["schedule"] = [[1, 2.0]]

  found = problems(scheduled)
  assert len(found) == 1 and "'step' and weights in stages both say" in found[0]

  def going_on(v):
    in_stages(v, two={"optim": {"warmup_steps": 3}})
    v["optim"]["stage_schedule"] = "continue"

  assert problems(going_on) == [
    "stages.two.optim.warmup_steps: read only with optim.stage_schedule='restart'"
  ]


def test_a_stage_that_is_not_named_is_left_out():
  values = copy.deepcopy(to_dict(small.config()))
  in_stages(values)
  values["train"]["stages"] = ["two"]
  c = from_config_dict(values)
  assert c.train.steps == 3 and list(to_dict(c)["stages"]) == ["two"]


def test_stages_from_the_command_line(tmp_path):
  path = tmp_path / "c.py"
  path.write_text(
    "from configs import transfusion\n"
    "def get_config():\n  c = transfusion.get_config('tiny')\n"
    "  c.stages.late = {'steps': 4, 'optim': {'freeze': ('embedding/*',)}}\n"
    "  c.stages.early = {'steps': 2}\n"
    "  c.train.stages, c.train.steps = ('late', 'early'), 0\n  return c\n"
  )
  c = config_file.load([
    f"--config={path}", "--config.stages.early.steps=9",
    "--config.stages.late.optim.freeze=('text_head/*', '!*bias')",
  ])  # fmt: skip
  assert [s.name for s in c.stages] == ["late", "early"] and c.starts == (0, 4)
  assert c.train.steps == 13 and c.at(0).optim.freeze == ("text_head/*", "!*bias")
  c = config_file.load([f"--config={path}", "--config.train.stages=('early',)"])
  assert c.train.steps == 2 and len(c.stages) == 1


def test_a_config_survives_being_written_and_read():
  for name in CONFIGS[:3]:
    c = config_file.load([f"--config={ROOT / name}"])
    assert from_config_dict(to_dict(c)) == c
  with pytest.raises(dataclasses.FrozenInstanceError):
    c.seed = 1


def test_difference_names_what_differs():
  one = to_dict(small.config())
  two = copy.deepcopy(one)
  assert config_lib.difference(one, two) == []
  two["model"]["width"] = 64
  two["data"]["sources"]["more"] = {"kind": "emoji", "weight": 1.0, "options": {}}
  assert config_lib.difference(one, two) == [
    "data.sources.more: '(absent)' -> {'kind': 'emoji', 'weight': 1.0, 'options': {}}",
    "model.width: 32 -> 64",
  ]


TINY = f"--config={ROOT}/configs/transfusion.py:tiny"


def test_overrides():
  c = config_file.load([
    TINY, "--config.model.width=64", "--config.optim.learning_rate", "1",
    "--config.model.qk_norm=false", "--config.data.sources.scenes.weight=3",
  ])  # fmt: skip
  assert c.model.width == 64 and c.optim.learning_rate == 1.0
  assert c.model.qk_norm is False
  assert {s.name: s.weight for s in c.data.sources}["scenes"] == 3.0
  assert isinstance(c, Config)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([TINY, "--config.model.widht=3"], r"unknown knob 'widht'.* \"width\""),
    ([TINY, "--config.modle.width=3"], r"unknown knob 'modle'.* \"model\""),
    ([TINY, "--config.model.width=wide"], r"--config.model.width=wide: invalid .*'wide'"),
    ([TINY, "--config.train.steps=0"], "train.steps: 0 must be > 0"),
    ([TINY, "more"], "unexpected argument 'more': overrides are --config.a.b=value"),
    (["--config=configs/no.py"], "no config file 'configs/no.py': see configs/"),
    (["--config", "configs/no.py:tiny"], "no config file 'configs/no.py': see configs/"),
    ([TINY + "y"], "unknown preset 'tinyy'; known: tiny, "),
    ([], "give --config=FILE"),
  ],
)  # fmt: skip
def test_mistakes_on_the_command_line(arguments, message):
  with pytest.raises(ConfigError, match=message):
    config_file.load(arguments)
