"""Codes: how they are chosen, hidden and unveiled; what the row says of them."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from tests.laws import variants
from unijax.data import picture, row_text
from unijax.data.document import DataError, Document
from unijax.data.tokenizer import ByteTokenizer
from unijax.infer import narrow
from unijax.write import codes
from unijax.write.masked import hidden_left, hidden_share, noise_left, rank_in_image

B, P, K = 3, 4, 216


def knobs(name="masked-shared", steps=4, **sample):
  """(the way to write of a variant with these knobs, the knobs)."""
  c = variants.config(name)
  c = dataclasses.replace(
    c, sample=dataclasses.replace(c.sample, steps=steps, **sample)
  )
  path = variants.path(c)
  return path, path.knobs(c)


def some_logits(rows=B, seed=0):
  return 2 * jax.random.normal(jax.random.key(seed), (rows, P, K))


def keys(n=B, seed=0):
  return jax.random.split(jax.random.key(seed), n)


# -- rows ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["codes-shared", "masked-shared"])
def test_codes_are_tokens_behind_the_text(name):
  c = variants.config(name)
  b, words = small.builder(c), small.builder(c).vocabulary
  batch = variants.in_rows(c, [0])
  here = batch.patch_BT[0] >= 0
  picture_of = variants.DOCUMENTS[0].parts[-1]
  want = b.codec.codes(picture_of.pixels()).reshape(-1)
  assert (batch.tokens_BT[0][here] - words.code_ids.first == want).all()
  assert (batch.patch_BT[0][here] == np.arange(4)).all() and batch.patches_BTC.size == 0
  assert (
    batch.image_weight_BT[0][here].all() and not batch.text_weight_BT[0][here].any()
  )
  assert words.code_ids.first >= words.text_size + 8 and words.codes == K
  assert words.code_ids.first + K + words.masks == words.size
  path = variants.path(c)
  assert path.code_ids.first == words.code_ids.first
  assert not words.masks or path.mask_token == words.size - 1
  assert (b.pixels(want) == b.codec.from_codes(want.reshape(2, 2))).all()


def test_codes_have_the_ids_that_are_listed():
  c, same = variants.config("codes-features"), variants.config("codes-shared")
  ids = np.asarray(c.data.code_ids)
  rows_of = lambda c: variants.in_rows(c, [0])
  batch, plain = rows_of(c), rows_of(same)
  here, first = batch.patch_BT[0] >= 0, variants.path(same).code_ids.first
  want = plain.tokens_BT[0][plain.patch_BT[0] >= 0] - first
  assert len(set(want)) > 1 and (batch.tokens_BT[0][here] == ids[want]).all()
  path = variants.path(c)
  assert (jax.jit(path.code_ids.of)(want) == ids[want]).all()
  logits = jax.random.normal(jax.random.key(0), (B, P, c.data.vocab))
  assert (path.code_ids.pick(logits) == logits[..., ids]).all()
  words = small.builder(c).vocabulary
  assert (words.code_ids.codes(batch.tokens_BT[0][here]) == want).all()


def test_lines_of_codes_end_in_tokens():
  c = variants.config("codes-features")
  b = small.builder(c)
  layout = b.layout(Document((variants.image(1),), 0))
  row = b.row([layout])
  codes_of = c.data.code_ids
  a, b_, c_, d = (codes_of[x] for x in b.codes(variants.image(1)))
  s = b.vocabulary.special
  wanted = [s.bos, s.boi, 480, 481, a, b_, 482, c_, d, 482, 483, s.eoi, s.eos]
  assert row.tokens_BT[: len(layout)].tolist() == wanted
  assert row.patch_BT[: len(layout)].tolist() == [-1] * 4 + [0, 1, -1, 2, 3] + [-1] * 4
  assert (row.span_BT >= 0).sum() == 6 and row.image_weight_BT.sum() == 4
  assert b.measure(Document((variants.image(1),), 0)) == (len(layout), 1)
  assert c.image_positions == len(layout) - 4
  bad = variants.config("codes-features", data__image_tokens=(("line", 264),))
  with pytest.raises(DataError, match="data.image_tokens: line is 264, which is no"):
    small.builder(bad)


def test_a_code_out_of_the_codebook_is_refused():
  b = small.builder(variants.config("codes-shared"))
  layout = b.layout(variants.DOCUMENTS[0])
  layout.images[0] = (layout.images[0][0], np.array([0, 1, 216, 2]))
  with pytest.raises(
    DataError, match="codes from 0 to 216, but data.codec='blocks' has 216"
  ):
    b.row([layout])


def test_rows_of_codes_can_be_looked_at():
  c = variants.config("codes-shared")
  b, batch = small.builder(c), variants.in_rows(c, [0, 1])
  show = functools.partial(picture.draw_rows, batch, b.vocabulary, ByteTokenizer(), 1)
  drawn = np.asarray(show(codec=b.codec))
  colours = b.codec.from_codes(b.codes(variants.DOCUMENTS[0].parts[-1]).reshape(2, 2))
  for colour in colours[::4, ::4].reshape(-1, 3):  # of the four codes
    assert (drawn == colour).all(-1).sum() > 100
  text = row_text.text_rows(batch, b.vocabulary, ByteTokenizer())
  assert "a red dog" in text and "(image 0: 4 patches)" in text


# -- choosing ------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
  "name", ["codes-shared", "codes-features", "codes-layer-parallel"]
)
def test_logits_of_codes_are_those_of_all_ids(name, tied):
  """Ids in a row, ids that are listed, and codes with a head of their own."""
  c = variants.config(name, model__tie_embeddings=tied, model__head_bias=not tied)
  path, model, params = variants.path(c), small.functions(c).model, small.params(c, 0)
  h_BPD = jax.random.normal(jax.random.key(0), (B, P, c.model.width))
  every = model.apply({"params": params}, h_BPD, method=model.logits)
  for weights in (params, narrow.apart(params)):
    alone = model.apply(
      {"params": weights}, h_BPD, path.code_ids.pick, method=model.code_logits
    )
    assert alone.shape == (B, P, K)
    np.testing.assert_allclose(alone, path.code_ids.pick(every), atol=1e-5)


def test_the_best_is_chosen_when_greedy():
  _, k = knobs(image_temperature=0.0)
  logits = some_logits()
  assert (codes.draw(logits, keys(), k) == logits.argmax(-1)).all()


def test_temperature_and_top_k_make_the_distribution():
  path, k = knobs(image_temperature=0.5, image_top_k=3)
  logits = jnp.asarray([0.0, 2.0, 1.0, 1.5, -1.0])
  n = 20_000
  drawn = jax.jit(
    jax.vmap(lambda key: codes.draw(logits[None, None], key[None], k)[0, 0])
  )(jax.random.split(jax.random.key(0), n))
  kept = np.exp(2 * np.array([-np.inf, 2.0, 1.0, 1.5, -np.inf]))
  np.testing.assert_allclose(
    np.bincount(drawn, minlength=5) / n, kept / kept.sum(), atol=0.015
  )


@pytest.mark.parametrize("name", ["codes-shared", "masked-shared"])
def test_guidance_one_is_conditional_and_more_goes_further(name):
  path, k = knobs(name, guidance=1.0)
  both = some_logits(2 * B)
  logits, alone = codes.guided(both, 2, k), codes.guided(both[:B], 1, k)
  np.testing.assert_allclose(logits, alone, atol=1e-5)
  assert (codes.draw(logits, keys(), k) == codes.draw(alone, keys(), k)).all()
  three = codes.guided(both, 2, k.replace(guidance=jnp.float32(3)))
  shadow = codes.guided(both[B:], 1, k)
  np.testing.assert_allclose(three - shadow, 3 * (alone - shadow), rtol=1e-4, atol=1e-4)


# -- masked decoding -----------------------------------------------------------------------


def test_one_step_from_nothing_is_the_independent_categorical():
  path, k = knobs(steps=1)
  logits, unknown = some_logits(), jnp.full((B, P), -1)
  known, guess = path.guess(logits, 1, unknown, 0, keys(), k)
  steps = jax.vmap(jax.random.fold_in, (0, None))(keys(), 0)
  assert (known == jax.vmap(jax.random.categorical)(steps, logits)).all()
  assert (known == guess).all()


def test_what_is_known_stays_and_the_least_confident_are_hidden_again():
  path, k = knobs(steps=4, confidence_noise=0.0, image_temperature=0.0)
  known, counts = jnp.full((B, P), -1), []
  for i in range(4):
    logits = some_logits(seed=i)
    before = known
    known, guess = path.guess(logits, 1, before, i, keys(), k)
    stays = before >= 0
    assert (known[stays] == before[stays]).all()
    p = jax.nn.log_softmax(logits).max(-1)
    for b in range(B):
      kept, hidden = p[b][(known[b] >= 0) & ~stays[b]], p[b][known[b] < 0]
      assert not len(hidden) or kept.min() > hidden.max()
    counts.append(int((known[0] < 0).sum()))
  # floor(4 sin(pi/2 left)) with left = 3/4, 1/2, 1/4, 0; at least one code a step
  assert counts == [3, 2, 1, 0]


def test_how_many_stay_hidden_is_what_releases_count():
  """Numbers of PyTorch in float32: a half of 256 is 127 where a cosine rounds down."""
  counts = [255, 252, 247, 240, 232, 221, 209, 196, 181, 164, 146, 127, 108, 87, 66, 44]
  assert hidden_left(np.arange(18), 18, 256).tolist() == [*counts, 22, 0]
  assert hidden_left(np.arange(7), 7, 9).tolist() == [8, 8, 7, 5, 3, 2, 0]
  last = [223, 191, 160, 128, 96, 64, 32, 0]
  assert hidden_left(np.arange(42, 50), 50, 1024).tolist() == last
  assert hidden_left(np.arange(4), 4, 2).tolist() == [1, 1, 1, 0]


def test_noise_on_confidence_falls_as_it_is_told():
  falls = {d: noise_left(np.arange(4), 4, d).tolist() for d in ("linear", "product")}
  assert falls == {
    "linear": [0.75, 0.5, 0.25, 0.0], "product": [0.75, 0.375, 0.09375, 0.0],
  }  # fmt: skip


def test_noise_on_confidence_changes_what_stays():
  path, k = knobs(steps=2, confidence_noise=0.0)
  logits = jnp.zeros_like(some_logits())
  stays = {}
  for noise in (0.0, 1.0):
    noisy = k.replace(confidence_noise=jnp.float32(noise))
    known, _ = path.guess(logits, 1, jnp.full((B, P), -1), 0, keys(), noisy)
    stays[noise] = {tuple(x) for x in np.asarray(known >= 0)}
  assert len(stays[0.0]) == 1 and len(stays[1.0]) > 1


# -- masked training -----------------------------------------------------------------------


def test_ranks_are_those_inside_each_image():
  rng = np.random.default_rng(0)
  span = np.array([[-1, 0, 0, 0, -1, 1, 1, 1, 1, 2, 2, -1]])
  order = rng.uniform(size=span.shape)
  rank = np.asarray(rank_in_image(jnp.asarray(span), jnp.asarray(order)))
  for n in range(3):
    here = span[0] == n
    assert (rank[0][here] == order[0][here].argsort().argsort()).all()


def test_what_is_hidden_follows_the_schedule():
  """As many codes as the timestep says, at least one; none of a clean context image."""
  c = variants.config("masked-shared", data__noise_limit=0.0)
  corrupt = jax.jit(variants.path(c).corrupt)
  batch = variants.in_rows(c, [0, 1], [3, 4])
  context = (batch.patch_BT >= 0) & (batch.noise_limit_BT == 0)
  assert context.sum() == 4
  counts, where = [], np.zeros(4)
  for seed in range(300):
    hidden = np.asarray(corrupt(jax.random.key(seed), batch)[1])
    assert not hidden[context].any()
    for b, t in np.argwhere((batch.patch_BT == 0) & (batch.noise_limit_BT > 0)):
      counts.append(hidden[b, t : t + 4].sum())
      where += hidden[b, t : t + 4]
  share = np.bincount(counts, minlength=5) / len(counts)
  t = np.random.default_rng(0).uniform(size=200_000)
  number = np.maximum(np.round(4 * np.asarray(hidden_share(t))), 1).astype(int)
  want = np.bincount(number, minlength=5) / len(t)
  assert share[0] == 0
  np.testing.assert_allclose(share, want, atol=0.03)
  np.testing.assert_allclose(where / where.sum(), 0.25, atol=0.02)  # no place preferred
