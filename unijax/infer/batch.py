"""The decoder of one group of rows: which row is in which phase, and what is committed.

Each row keeps, beside its arrays on the device, the layout of what it has committed;
with guidance it keeps a second track, the shadow, that has the images but no text, or
in its place `sample.negative_prompt`; and perhaps a third, that has the text but none
of the pictures shown to it.
"""

import jax
import jax.numpy as jnp
import numpy as np

from unijax.data import rows as rows_lib
from unijax.data import text_blocks
from unijax.data.document import DataError
from unijax.data.layout import Layout
from unijax.infer.functions import branches, chunk_lengths
from unijax.infer.row import BLIND, DONE, IMAGE, TEXT, Row, chunks, padded
from unijax.infer.text_sampling import text_sampling
from unijax.infer.tracks import layouts
from unijax.nn.cache import make_cache
from unijax.write.base import Span

STREAM_TOKENS = 8  # tokens between two calls of on_text
IMAGE_KEYS = 1 << 20  # keeps the keys of images apart from those of text positions


class RowBatch:
  """Runs up to `generator.rows` prompts to their ends. See `run`."""

  def __init__(self, generator, prompts, first: int):
    self.config, self.builder = generator.config, generator.builder
    self.params, self.functions = generator.params, generator.functions
    self.slots, self.first = generator.slots, first
    self.size = generator.rows
    self.special = self.builder.vocabulary.special
    self.ends = (self.special.eos, *self.config.sample.stops)
    self.block = self.config.text_block
    self.least = self.block or 1  # positions that are written at once
    # Kept free while a row thinks: an end, what begins an image, the image.
    begin = 2 + len(self.builder.draw_image)
    self.reserve = self.config.image_positions + 1 + (self.block or begin)
    self.path, self.never = self.functions.path, self.config.write.never
    self.draws, self.branches = self.config.draws, branches(self.config)
    self.rows = [self._row(p, first + i) for i, p in enumerate(prompts)]
    self.features = self._features()
    self.chunks = chunk_lengths(self.config, self.features)
    self.caches = [
      make_cache(self.config, self.size, self.slots) for _ in range(self.branches)
    ]
    self.logits = jnp.zeros((self.size, self.builder.vocabulary.size))
    seeds = np.zeros(self.size, np.uint32)
    seeds[: len(self.rows)] = [r.seed for r in self.rows]
    self.keys_B = jax.vmap(jax.random.key)(seeds)

  def run(self, on_text=None, on_image=None) -> None:
    """Prefills, then alternates between writing and drawing until all rows are done."""
    for branch in range(self.branches):
      self._commit(branch, [row.tracks[branch] for row in self.rows])
    forced = [row.phase == IMAGE for row in self.rows]
    self._begin_images(forced, branches=range(self.branches))
    while any(row.phase != DONE for row in self.rows):
      self._draw(on_image)
      self._write(on_text)

  def _row(self, prompt, number: int) -> Row:
    s = self.config.sample
    tracks = layouts(self.builder, prompt, s, self.branches, number)
    if not tracks[0]:
      raise DataError(f"prompt {number} is empty, and data.chat begins with nothing")
    tracks[0], given = text_blocks.take_open(tracks[0], self.block)
    image = self.config.image_positions + 1
    draws = prompt.begin == "image"
    thinks = draws and prompt.think
    wanted = self.least + (self.reserve if thinks else image * draws)
    longest = max(map(len, tracks))
    room = self.slots - longest
    if room < wanted:
      raise DataError(
        f"prompt {number} takes {longest} of {self.slots} positions and leaves "
        f"{room} where {wanted} are needed: shorten it, or train with a longer "
        "data.seq_len"
      )
    images = s.max_images if prompt.max_images is None else prompt.max_images
    if draws and not self.draws:
      why = "model.write='none' has none"
      if not self.never:
        why = f"data.codec={self.config.data.codec!r} has no decoder to draw with"
      raise DataError(f"prompt {number} asks for an image: {why}")
    tokens = prompt.max_text_tokens
    return Row(
      tracks,
      phase=IMAGE if draws and not thinks else TEXT,
      seed=prompt.seed,
      images_left=images if self.draws and prompt.begin != "text" else 0,
      tokens_left=s.max_text_tokens if tokens is None else tokens,
      one_image=prompt.stop_after_image,
      thinks=thinks,
      given=given,
    )

  def _features(self) -> int | None:
    """Positions that the largest picture of the prompts may take: a power of two, or
    the most that there are; None where pictures are of one size."""
    if not self.config.native:
      return None
    shown = [
      self.builder.feature_count(image)
      for row in self.rows
      for at, image in row.tracks[0].images
      if row.tracks[0].feature[at] >= 0
    ]
    longest = max(shown, default=1)
    return min(1 << (longest - 1).bit_length(), self.config.features)

  # -- writing text ------------------------------------------------------------------

  def _write(self, on_text) -> None:
    """Lets every row in its text phase write until it stops or a call's limit ends."""
    writing = [row.phase == TEXT for row in self.rows]
    thinking = [row.thinks for row in self.rows]
    if not any(writing):
      return
    allowance = np.zeros(self.size, np.int32)
    images = np.zeros(self.size, bool)
    position = np.zeros(self.size, np.int32)
    for i, row in enumerate(self.rows):
      position[i] = row.tracks[0].next_position
      if writing[i]:
        allowance[i], images[i] = self._allowance(row)
    longest = self.config.sample.max_text_tokens
    limit = min(longest, STREAM_TOKENS) if on_text else longest
    self.caches[0], self.logits, tokens = self.functions.decode_text(
      self.params, self.caches[0], self.logits, position, self.keys_B, allowance,
      images, np.int32(limit), text_sampling(self.config.sample), *self._given(),
    )  # fmt: skip
    tokens = np.asarray(tokens)
    for i, row in enumerate(self.rows):
      if writing[i]:
        self._take_tokens(row, [int(t) for t in tokens[i] if t >= 0])
        if on_text and row.parts and isinstance(row.parts[-1], str):
          on_text(self.first + i, row.parts[-1])
    began = [w and r.phase == IMAGE for w, r in zip(writing, self.rows, strict=True)]
    thought = [b and t for b, t in zip(began, thinking, strict=True)]
    wrote = [b and not t for b, t in zip(began, thinking, strict=True)]
    self._begin_images(thought, branches=range(self.branches))
    self._begin_images(wrote, branches=range(1, self.branches))

  def _given(self) -> tuple[np.ndarray, ...]:
    """Where text is written in blocks, what stands in the first of each row."""
    if not self.block:
      return ()
    given = np.full((self.size, self.block), -1, np.int32)
    for i, row in enumerate(self.rows):
      given[i, : len(row.given)] = row.given
    return (given,)

  def _allowance(self, row: Row) -> tuple[int, bool]:
    """Positions a row may write now, and whether it may begin an image."""
    longest = max(map(len, row.tracks))
    room, image = self.slots - longest, self.config.image_positions + 2
    room -= self.reserve * row.thinks
    may = row.images_left > 0 and not row.thinks and room - image >= self.least
    room = (room - image if may else room) // self.least * self.least
    return min(row.tokens_left + len(row.given), room), may

  def _take_tokens(self, row: Row, tokens: list[int]) -> None:
    self.builder.write(row.tracks[0], tokens, 0.0)
    tokens = tokens[len(row.given) :][: row.tokens_left]
    row.given = []
    row.tokens_left -= len(tokens)
    if self.block:  # what was not written of the last one
      tokens = [t for t in tokens if t != self.special.pad]
    row.tokens += tokens
    row.said += [t for t in tokens if t != self.special.boi]
    fresh = [t for t in tokens if self.builder.vocabulary.is_text(t)]
    row.text_ids += fresh
    if fresh:
      if len(row.text_ids) > len(fresh):
        row.parts.pop()
      row.parts.append(self.builder.tokenizer.decode(row.text_ids))
    last = tokens[-1] if tokens else None
    over = row.tokens_left <= 0 or self._full(row)
    if row.thinks and (over or last in self.ends):
      # A thought is ended as the model would have, and is nothing that was asked.
      end = [] if last in self.ends else [self.special.eos]
      row.given = [*end, *self.builder.draw_image]
      row.said, row.thinks, row.phase = [], False, IMAGE
    elif last in self.ends:
      row.phase, row.finished = DONE, True
    elif last == self.special.boi and not self.never:
      row.phase = IMAGE
    elif over:
      row.phase = DONE

  def _full(self, row: Row) -> bool:
    """Whether a row has no room for more text."""
    reserve = self.reserve * row.thinks
    return max(map(len, row.tracks)) + reserve + self.least > self.slots

  # -- drawing images ----------------------------------------------------------------

  def _begin_images(self, which: list[bool], branches) -> None:
    """Commits BOI, or the block that it ends, to the branches that have not seen it."""
    if not any(which):
      return
    for branch in branches:
      before = [len(row.tracks[branch]) for row in self.rows]
      for row, now in zip(self.rows, which, strict=True):
        if now:
          ids = [*self._unseen(row, branch), self.special.boi]
          self.builder.write(row.tracks[branch], ids, 0.0, ends=True)
          row.given = row.given if branch else []
      self._commit_tails(branch, which, before)

  def _unseen(self, row: Row, branch: int) -> list[int]:
    """What stands in a branch for text that was written since the last image."""
    if branch == 0:
      return row.given
    if branch == BLIND:
      return row.said
    text, shadow = row.tracks[:BLIND]  # that with text has BOI already
    without = self.config.data.without_text
    if self.config.sample.negative_prompt:
      return []
    if without == "hidden":
      shadow.next_position = text.next_position - 1
    return [self.special.pad] * (len(text) - 1 - len(shadow)) * (without == "padded")

  def _draw(self, on_image) -> None:
    """Draws and commits one image in every row that has begun one."""
    drawing = [row.phase == IMAGE for row in self.rows]
    if not any(drawing):
      return
    spans, numbers = self._spans(drawing)
    x = self._images(drawing, numbers, spans, on_image)
    for i, row in enumerate(self.rows):
      if drawing[i]:
        for track in row.tracks:
          track.images[-1] = (track.images[-1][0], x[i])
        row.parts.append(self.builder.pixels(x[i]))
        row.text_ids, row.said = [], []
        row.images_left -= 1
        done = row.one_image or self._full(row) or row.tokens_left <= 0
        row.phase = DONE if done else TEXT
    if any(row.phase == TEXT for row in self.rows):
      owned = self.config.owns_boi  # then BOI is committed again, with its image
      image = self.config.image_positions + 1 + owned
      again = owned * np.pad(drawing, (0, self.size - len(drawing)))
      for branch in range(self.branches):
        cache = self.caches[branch]
        self.caches[branch] = cache.replace(length_B=cache.length_B - again)
        before = [len(row.tracks[branch]) - image for row in self.rows]
        self._commit_tails(branch, drawing, before)

  def _spans(self, drawing: list[bool]) -> tuple[tuple[Span, ...], np.ndarray]:
    """Makes room for an image in the tracks: (its place there, its number in rows)."""
    T, framed = self.config.image_positions, self.config.framed
    shape = self.size, T + 1 + framed
    blank = lambda *more: np.zeros((*shape, *more), np.int32)  # noqa: E731
    spans = [Span(blank(), blank(3)) for _ in range(self.branches)]
    numbers = np.zeros(self.size, np.uint32)
    for i, row in enumerate(self.rows):
      if drawing[i]:
        numbers[i] = len(row.tracks[0].images)
        for branch, track in enumerate(row.tracks):
          self.builder.add_span(track, None, 0.0)
          # from BOI to the last patch, or to EOI
          here = slice(-T - 2, None if framed else -1)
          spans[branch].tokens_BT[i] = track.tokens[here]
          spans[branch].position_BTA[i] = track.position[here]
    return tuple(spans), numbers

  def _images(self, drawing, numbers, spans, on_image) -> np.ndarray:
    path, caches = self.path, tuple(self.caches)
    keys = jax.vmap(jax.random.fold_in)(self.keys_B, IMAGE_KEYS + numbers)
    state, knobs = self.functions.begin_image(caches, keys), path.knobs(self.config)
    stride = min(path.stride, path.steps) if on_image else path.steps
    for first in range(0, path.steps, stride):
      last = min(first + stride, path.steps)
      state = self.functions.draw_image(
        self.params, caches, state, spans, keys, np.int32(first), np.int32(last), knobs
      )
      if on_image:
        seen = np.asarray(path.look(state))
        for i, now in enumerate(drawing):
          if now:
            on_image(self.first + i, last / path.steps, self.builder.pixels(seen[i]))
    return np.asarray(path.image(state))

  # -- committing to the caches ------------------------------------------------------

  def _commit_tails(self, branch: int, which: list[bool], before: list[int]) -> None:
    """Commits what rows have after the first positions, whose numbers are `before`."""
    tails = [
      row.tracks[branch].part(first, len(row.tracks[branch])) if now else None
      for row, now, first in zip(self.rows, which, before, strict=True)
    ]
    self._commit(branch, tails)

  def _commit(self, branch: int, layouts: list[Layout | None]) -> None:
    """Prefills layouts, in as many chunks as the longest takes."""
    pieces = [list(chunks(x, self.chunks)) if x else [] for x in layouts]
    pieces += [[]] * (self.size - len(pieces))
    for i in range(max(map(len, pieces))):
      now = [p[i] if i < len(p) else None for p in pieces]
      size = padded(now, self.chunks)
      cut = [self.builder.chunk(x, size, self.features) for x in now]
      chunk = rows_lib.stack(cut)
      self.caches[branch], logits = self.functions.prefill(
        self.params, self.caches[branch], chunk
      )
      if branch == 0:
        here = np.array([x is not None for x in now])[:, None]
        self.logits = jnp.where(here, logits, self.logits)
