"""Learning eight documents by heart: how a config is trained on them, and asked.

What is asked of a way to write images follows from what it says of itself: codes are
drawn exactly as they were, patches closely. A way that is trained on the direction of a
patch alone cannot know its length: its picture is compared with the one that the true
directions make.
"""

import dataclasses

import jax
import numpy as np

from tests.laws import systems
from unijax.data import rows
from unijax.data.document import Image, Text, Turn
from unijax.data.rows import RowBuilder
from unijax.data.sources import make_source
from unijax.data.tokenizer import make_tokenizer
from unijax.infer.generate import Prompt
from unijax.infer.load import make_generator
from unijax.train.functions import StepFunctions
from unijax.train.metrics import to_scalars
from unijax.write import make_write_path
from unijax.write.regression import REGRESSIONS

ROUND = 25  # steps between two looks
ROUNDS = 24  # after which it has not learnt
COPIES = 4  # of a document in a batch, where every one is noised or hidden anew
EARLIER = 100  # steps of every stage before the last one
TEXT_NLL = 0.1  # a token; no look is taken above
CLOSE = 0.08  # root of the mean squared error of a picture, of the range from 0 to 1


def config(name: str):
  """A tiny preset whose steps all train the same, and whose sampling is sure."""
  c = systems.load(
    name,
    data=dict(caption_dropout=0.0, noise_limit=0.0),
    train=dict(ema_decay=0.9),
    optim=dict(schedule="constant", warmup_steps=10),
    sample=dict(guidance=1.0, confidence_noise=0.0, temperature=0.0),
  )
  # Of other ways the learnt law is all but a point, and the draw is one of it.
  if c.codebook or c.model.write == "gmm":
    c = dataclasses.replace(
      c, sample=dataclasses.replace(c.sample, image_temperature=0.0)
    )
  stages = tuple(dataclasses.replace(s, steps=EARLIER) for s in c.stages)
  return dataclasses.replace(c, stages=stages)


def documents(c) -> list:
  """Eight: half of them draw, a quarter describes and a quarter answers a question;
  those of a config that only reads describe and answer, half each."""
  found = {"draw": [], "describe": [], "ask": []}
  for entry in (s for s in c.data.sources if s.kind == "scenes"):
    options = {**entry.options, "questions_per_image": 1}
    entry = dataclasses.replace(entry, options=options)
    source = make_source(entry, c.data.image_size)
    for i in range(100):
      found.get(source[i].kind, []).append(source[i])
  drawn = found["draw"][:4]
  left = 2 if drawn else 4
  read = [*found["describe"][:left], *found["ask"][:left]]
  return [*drawn, *read]


def answers(document) -> list[int]:
  """Places of what the assistant says or draws."""
  parts = document.parts
  return [i for i in range(1, len(parts)) if parts[i - 1] == Turn("assistant")]


def random(c, vocab: int, batch) -> bool:
  """Whether what the model is shown of a batch, or asked, is drawn anew in each step."""
  path = make_write_path(c, vocab)
  one, other = (path.corrupt(jax.random.key(i), batch) for i in range(2))
  same = jax.tree.map(lambda a, b: bool((a == b).all()), one, other)
  return not all(jax.tree.leaves(same))


class ByHeart:
  """Eight documents, two a row; a config that learns them, and a sampler.

  Args:
    name: of the config's file.
  """

  def __init__(self, name: str):
    c = config(name)
    self.documents = documents(c)
    assert len(self.documents) == 8, [d.kind for d in self.documents]
    tokenizer = make_tokenizer(c.data.tokenizer)
    builder = RowBuilder(c, tokenizer)
    pairs = list(zip(self.documents[:4], self.documents[4:], strict=True))
    layouts = [[builder.layout(d, key=0) for d in pair] for pair in pairs]
    length = max(sum(map(len, pair)) for pair in layouts)
    size = dict(
      seq_len=-(-length // 16) * 16,
      images_per_row=max(sum(len(x.images) for x in pair) for pair in layouts),
    )
    c = dataclasses.replace(c, data=dataclasses.replace(c.data, **size))
    self.builder = RowBuilder(c, tokenizer)
    batch = self.rows(pairs)
    if random(c, builder.vocabulary.size, batch):
      batch = self.rows(pairs * COPIES)
    size = len(batch.tokens_BT)
    c = dataclasses.replace(c, train=dataclasses.replace(c.train, batch_size=size))
    self.config, self.batch = c, jax.device_put(batch)
    self.functions = StepFunctions(c, builder.vocabulary.size)
    self.state, self.step = self.functions.init(), 0
    self.generator = None

  def rows(self, pairs):
    """A batch of one row for each pair; no two documents share their randomness."""
    layout = self.builder.layout
    packed = [
      [layout(a, key=2 * i), layout(b, key=2 * i + 1)] for i, (a, b) in enumerate(pairs)
    ]
    return rows.stack([self.builder.row(row) for row in packed])

  def train(self, steps: int) -> dict[str, float]:
    """Means of the metrics over these steps."""
    lines = []
    for _ in range(steps):
      train = self.functions.train_at(self.step)
      self.state, metrics = train(self.state, self.batch)
      self.step += 1
      lines.append(to_scalars(metrics))
    names = {name for x in lines for name in x if "/" not in name}
    return {n: float(np.mean([x[n] for x in lines if n in x])) for n in sorted(names)}

  def learn(self) -> list[str]:
    """Trains until everything is known, or to the end: what is wrong then."""
    wrong = ["text_nll never fell far enough for a look"]
    if self.config.stages:
      self.train(self.config.starts[-1])
    for _ in range(ROUNDS):
      losses = self.train(ROUND)
      if losses["text_nll"] < TEXT_NLL:
        wrong = self.wrong()
      said = {
        n: round(x, 4) for n, x in losses.items() if n.startswith(("text", "image"))
      }
      print(f"step {self.step}: {said}\n  " + "\n  ".join(wrong))  # seen if it fails
      if not wrong:
        break
    return wrong

  def wrong(self) -> list[str]:
    """Asks for everything that was learnt: one line for each that is not as it was."""
    asked, prompts = [], []
    for document in self.documents:
      for i in answers(document):
        begin = "text" if isinstance(document.parts[i], Text) else "image"
        prompts.append(Prompt(document.parts[:i], begin, stop_after_image=True))
        asked.append(self.want(document.parts[i]))
    if self.generator is None:
      rows = len(prompts)  # all of them at once
      self.generator = make_generator(self.config, None, self.builder, rows=rows)
    self.generator.params = self.state.ema_params
    pictures = [x for x in asked if not isinstance(x, str)]
    lines = []
    for want, got in zip(asked, self.generator.generate(prompts), strict=True):
      if not isinstance(want, str):
        lines += self.differs(got.images[0], want, pictures)
      elif got.text != want:
        lines.append(f"{got.text!r}, not {want!r}")
    return lines

  def want(self, part: Text | Image):
    """The text, or the picture as well as this way to write can say it."""
    c = self.config
    if isinstance(part, Text):
      return part.text
    if c.codebook:
      return self.builder.pixels(self.builder.codes(part))
    patches = self.builder.patches(part)
    if c.model.write == "regression":
      patches = np.asarray(REGRESSIONS[c.train.regression][1](patches))
    return self.builder.pixels(patches)

  def differs(self, got, want, pictures) -> list[str]:
    """Codes must be the same; patches near, and nearer than to any other picture."""
    error = distance(got, want)
    others = min(distance(got, p) for p in pictures if p is not want)
    exact = bool(self.config.codebook)
    near = error == 0 if exact else error < CLOSE and error < others / 2
    return [] if near else [f"a picture: {error:.3f} from it, {others:.3f} from others"]


def distance(a, b) -> float:
  """Root of the mean squared difference of two pictures, of the range from 0 to 1."""
  return float(np.sqrt(np.mean(np.square((a.astype(float) - b) / 255.0))))
