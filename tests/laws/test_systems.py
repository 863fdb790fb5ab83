"""Systems of configs/ that are no diffusion: a few documents learnt by heart."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.conftest import ROOT
from unijax import config_file
from unijax.data import rows
from unijax.data.document import Text
from unijax.data.rows import RowBuilder
from unijax.data.sources import make_source
from unijax.data.tokenizer import make_tokenizer
from unijax.infer.generate import Generator, Prompt
from unijax.train.functions import StepFunctions
from unijax.train.metrics import to_scalars

SYSTEMS = {"chameleon": 120, "showo": 50}  # steps


def load(name: str, **sections):
  """The tiny preset of a system with other values in its sections."""
  tiny = f"--config={ROOT}/configs/{name}.py:tiny"
  c = config_file.load(
    [tiny, f"--config.data.tokenizer={ROOT}/configs/tokenizers/embedded.json"]
  )
  changed = {k: dataclasses.replace(getattr(c, k), **v) for k, v in sections.items()}
  return dataclasses.replace(c, **changed)


def documents(c, number: int):
  """Half of them draw, half describe or answer once."""
  entry = next(s for s in c.data.sources if s.kind == "scenes")
  source = make_source(entry, c.data.image_size)
  found = {"draw": [], "describe": []}
  for i in range(200):
    document = source[i]
    if len(found.get(document.kind, [0] * number)) < number // 2:
      found[document.kind].append(document)
  return [*found["draw"], *found["describe"]]


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_learns_eight_documents_by_heart(name):
  c = load(
    name,
    data=dict(seq_len=192, caption_dropout=0.0), train=dict(batch_size=4, ema_decay=0.0),
    optim=dict(schedule="constant", warmup_steps=10),
    sample=dict(guidance=1.0, image_temperature=0.0, confidence_noise=0.0, steps=8,
                temperature=0.0),
  )  # fmt: skip
  builder = RowBuilder(c, make_tokenizer(c.data.tokenizer))
  learnt = documents(c, 8)
  layouts = [builder.layout(d, key=i) for i, d in enumerate(learnt)]
  pairs = [layouts[i : i + 2] for i in range(0, 8, 2)]
  batch = rows.stack([builder.row(pair) for pair in pairs])
  functions = StepFunctions(c, builder.vocabulary.size)
  state = functions.init()
  for _ in range(SYSTEMS[name]):
    state, metrics = functions.train(state, jax.device_put(batch))
  losses = to_scalars(metrics)
  assert losses["text_nll"] < 0.05, losses
  generator = Generator(c, state.params, builder, rows=4)
  prompts = [
    Prompt(d.parts[:-1], "image" if d.kind == "draw" else "text", stop_after_image=True)
    for d in learnt
  ]
  for document, made in zip(learnt, generator.generate(prompts), strict=True):
    last = document.parts[-1]
    if isinstance(last, Text):
      assert made.text == last.text
    else:
      want = builder.pixels(builder.codes(last))
      assert np.mean(made.images[0] == want) > 0.98, (losses, document.parts)
