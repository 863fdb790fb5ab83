"""Interleaved generation without any cache: every token and every solver step runs the
whole row anew. Slow, short, and independent of `unijax.infer`."""

import dataclasses

import jax
import numpy as np

from tests import small
from unijax.data import rows
from unijax.data.document import Document
from unijax.data.layout import Layout
from unijax.diffusion import guidance, process, samplers, schedules

EOS, BOI = small.SPECIAL.eos, small.SPECIAL.boi
WRITTEN = [*range(256), EOS, BOI]


@dataclasses.dataclass
class Answer:
  """What one prompt became."""

  layout: Layout  # the whole row, images clean
  tokens: list[int] = dataclasses.field(default_factory=list)
  images: list[np.ndarray] = dataclasses.field(default_factory=list)  # [P, C]
  finished: bool = False
  noisy: tuple[np.ndarray, float] | None = None  # last image before its last step


class Uncached:
  """Generates by running whole rows."""

  def __init__(self, config, params):
    self.config, self.params = config, params
    self.builder, self.forward = small.builder(config), small.forward(config)
    s, d = config.sample, config.diffusion
    self.times = np.asarray(schedules.solver_times(d, s.steps, s.schedule_shift))

  def run(self, layout: Layout, time: float = 0.0):
    """(logits, prediction) of a row whose last image stands at `time`, others at 0."""
    row = rows.stack([self.builder.row([layout])])
    last = (row.span_BT == len(layout.images) - 1) & (row.span_BT >= 0)
    inputs = small.inputs(self.config, row, time=last * time)
    logits, prediction = self.forward(self.params, inputs)
    return np.asarray(logits[0, : len(layout)]), prediction[0, : len(layout)]

  def generate(self, prompt) -> Answer:
    """Continues a prompt greedily."""
    s, builder = self.config.sample, self.builder
    document = Document(tuple(prompt.parts), id=0)
    begun = dict(open_end=True, draws=prompt.begin == "image")
    track = builder.layout(document, without_text=False, **begun)
    shadow = builder.layout(document, without_text=True, **begun)
    answer = Answer(track)
    if prompt.begin == "image":
      track.add_tokens([BOI], 0.0)
      self._draw(answer, shadow, prompt.seed)
      if prompt.stop_after_image:
        return answer
    images_left = s.max_images - len(answer.images) if prompt.begin != "text" else 0
    while len(answer.tokens) < s.max_text_tokens:
      allowed = WRITTEN[:-1] if images_left <= 0 else WRITTEN
      token = allowed[int(np.argmax(self.run(track)[0][-1][allowed]))]
      track.add_tokens([token], 0.0)
      answer.tokens.append(token)
      if token == EOS:
        answer.finished = True
        break
      if token == BOI:
        self._draw(answer, shadow, prompt.seed)
        images_left -= 1
    return answer

  def _draw(self, answer: Answer, shadow: Layout, seed: int) -> None:
    """Draws one image after BOI, into the row and into the one without text."""
    c = self.config
    if c.data.without_text == "hidden":  # what was written since has its places there
      shadow.next_position = answer.layout.next_position - 1
    shadow.add_tokens([BOI], 0.0)
    key = jax.random.fold_in(jax.random.key(seed), 2**20 + len(answer.layout.images))
    shape = (1, c.patches, c.patch_channels)
    x = jax.random.normal(key, shape[1:])[None]
    tracks = [answer.layout, shadow]
    for track in tracks:
      self.builder.add_span(track, x[0], 0.0)
    for i in range(c.sample.steps):
      t, s = self.times[i], self.times[i + 1]
      answer.noisy = np.asarray(x[0]), float(t)
      noise = jax.random.normal(jax.random.fold_in(key, i), shape[1:])[None]
      predict = lambda x, t_B: self._clean(tracks, x, t_B)  # noqa: B023
      x = samplers.step(c.sample.sampler, c.diffusion.path, predict, x, t, s, noise)[0]
    for track in tracks:
      self._put(track, x)
    answer.images.append(np.asarray(x[0]))

  def _clean(self, tracks, x, t_B):
    """The guided prediction of the clean image, from whole rows."""
    s, d = self.config.sample, self.config.diffusion
    found = []
    for track in tracks:
      at = self._put(track, x)
      out = self.run(track, float(t_B[0]))[1][None, at : at + self.config.patches]
      found.append(process.from_kind(d.path, d.predict, out, x, t_B[:, None])[0])
    if s.guidance == 1.0:
      return found[0]
    if s.guidance_renorm != "none":
      return self._shortened(*found, x, t_B)
    return guidance.guide(
      *found, t_B, scale=s.guidance, low=s.guidance_low, high=s.guidance_high,
      rescale=s.guidance_rescale,
    )  # fmt: skip

  def _shortened(self, whole, without, x, t_B):
    """Guided clean images whose slopes, patch by patch, are no longer than unguided."""
    s, t = self.config.sample, t_B[:, None, None]
    assert s.guidance_renorm == "patch"
    assert self.config.diffusion.path == "rectified_flow"
    one, other = ((x - x0) / t for x0 in (whole, without))
    slope = other + s.guidance * (one - other)
    size, own = (np.linalg.norm(y, axis=-1, keepdims=True) for y in (slope, one))
    inside = (s.guidance_low <= float(t_B[0])) & (float(t_B[0]) <= s.guidance_high)
    slope = slope * np.clip(own / size, s.guidance_renorm_min, 1)
    return x - t * (slope if inside else one)

  def _put(self, track: Layout, x) -> int:
    """Replaces the last image; returns the offset of its patches."""
    at = track.images[-1][0]
    track.images[-1] = (at, np.asarray(x[0]))
    return at
