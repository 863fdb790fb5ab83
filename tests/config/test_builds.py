"""Law 10: every preset of a unified system builds, at its published size."""

import importlib
import pathlib
import re

import jax
import numpy as np
import pytest

from configs import transfusion
from tests.conftest import ROOT
from unijax import config_file
from unijax.config import ConfigError
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
def test_every_config_builds_its_train_step(name):
  c = config_file.load([f"--config={ROOT / name}"])
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
  images = set() if c.write.never else {path.metric}
  assert {"loss", "text_nll", *images} <= set(metrics)


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
