"""Text in blocks, hidden and filled: the rows, what is hidden, the loss, the filling."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from tests import small
from tests.laws import variants
from unijax.data.document import Document, Text, Turn
from unijax.infer.block_text import block_text
from unijax.infer.generate import Generator, Prompt
from unijax.infer.text_sampling import text_sampling
from unijax.write import losses

NAME = "masked_all-shared"
EOS, BOI, PAD = small.SPECIAL.eos, small.SPECIAL.boi, small.SPECIAL.pad
N = 4


def config(**knobs):
  return variants.config(NAME, **knobs)


def draws(c, batch, number=400):
  """(weights [number, B, T], hidden) of many steps."""
  path = variants.path(c)
  draw = lambda key: path.corrupt(key, batch)[1]
  return jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), number))


# -- rows ----------------------------------------------------------------------------------


def test_what_is_written_stands_in_blocks_and_ends_with_padding():
  b = small.builder(config())
  document = Document((Turn("user"), Text("ab", False), Turn("assistant"), Text("blue"),
                       variants.image(1), Text("z")), 0)  # fmt: skip
  x = b.layout(document)
  written = [[*b"blue"], [BOI, PAD, PAD, PAD], [ord("z"), EOS, PAD, PAD]]
  for number, tokens in enumerate(written):
    here = [i for i, n in enumerate(x.span) if n == -2 - number]
    assert here == list(range(here[0], here[0] + N))
    assert [x.tokens[i] for i in here] == tokens
    assert all(x.text_weight[i] == 1 for i in here)
  outside = [i for i, n in enumerate(x.span) if n == -1]
  assert not any(x.text_weight[i] for i in outside)
  assert b.measure(document) == (len(x), 1)


def test_a_prompt_that_ends_in_a_block_goes_on_there():
  c = config(sample__max_text_tokens=6)
  generator = Generator(c, small.params(config(), 3), small.builder(c), rows=2)
  made = generator.generate(
    [Prompt([Text("abcde")], "text"), Prompt([Text("ab")], "text")]
  )
  assert [len(m.tokens) for m in made] == [6, 6] or any(m.finished for m in made)
  said = []
  again = generator.generate(
    [Prompt([Text("abcde")], "text")], on_text=lambda i, t: said.append(t)
  )
  assert again[0].tokens == made[0].tokens and said and said[-1] == again[0].text


# -- training ------------------------------------------------------------------------------


def test_one_block_or_image_of_a_document_is_hidden_by_its_share():
  c = config()
  batch = variants.in_rows(c, [4], [1])
  weight, hidden = (np.asarray(x) for x in draws(c, batch))
  trained = (batch.text_weight_BT > 0) | (batch.image_weight_BT > 0)
  for row in range(2):
    units = [
      batch.span_BT[row] == n for n in np.unique(batch.span_BT[row][trained[row]])
    ]
    total = trained[row].sum()
    chosen = np.stack([hidden[:, row, u].any(-1) for u in units], -1)
    assert (chosen.sum(-1) == 1).all()
    sizes = [u.sum() for u in units]
    np.testing.assert_allclose(chosen.mean(0), np.array(sizes) / total, atol=0.08)
  assert not hidden[:, 2:].any() and (weight[~hidden] == 0).all()


def test_in_expectation_every_position_counts_once():
  """Of text; and each number of hidden positions is as likely."""
  c = config()
  batch = variants.in_rows(c, [2])
  weight, hidden = (np.asarray(x)[:, 0] for x in draws(c, batch, 4000))
  text = batch.text_weight_BT[0] > 0
  assert text.sum() == 12
  np.testing.assert_allclose(weight[:, text].mean(0), 1.0, atol=0.2)
  counts = hidden.sum(-1)
  np.testing.assert_allclose(
    np.bincount(counts, minlength=5)[1:] / 4000, 0.25, atol=0.03
  )


def test_blocks_of_one_token_are_next_token_prediction():
  """Each token is predicted from a mask behind all tokens before it."""
  c = config(model__text_block=1)
  path, model, params = variants.path(c), small.functions(c).model, small.params(c, 0)
  batch = variants.in_rows(c, [2])
  assert batch.text_weight_BT.sum() == 10  # no padding: nine letters and EOS
  places = np.flatnonzero(batch.text_weight_BT[0])

  @jax.jit
  def step(key):
    inputs, truth = path.corrupt(key, batch)
    h = model.apply({"params": params}, inputs, method=lambda m, x: m.hidden(x)[0])
    to_logits = lambda h: model.apply({"params": params}, h, method=model.logits)
    nll = losses.token_sums(to_logits, h, path.asks(batch, truth))["text"].nll
    return nll.value, truth[1][0]

  @jax.jit
  def expected(t):
    tokens = jnp.where(jnp.arange(64) == t, path.mask_token, batch.tokens_BT[0])
    inputs = small.inputs(c, batch).replace(tokens_BT=tokens[None])
    h = model.apply({"params": params}, inputs, method=lambda m, x: m.hidden(x)[0])
    log_p = jax.nn.log_softmax(model.apply({"params": params}, h, method=model.logits))
    return -log_p[0, t, jnp.asarray(batch.tokens_BT)[0, t]]

  seen = set()
  for seed in range(12):
    value, hidden = step(jax.random.key(seed))
    (t,) = np.flatnonzero(hidden)
    np.testing.assert_allclose(value, len(places) * expected(t), rtol=1e-4)
    seen.add(int(t))
  assert len(seen) > 3 and seen <= set(places)


# -- filling -------------------------------------------------------------------------------


@functools.cache
def filler(steps: int, **sample):
  c = config(sample__text_steps=steps, **sample)
  text = block_text(c, small.builder(c).vocabulary)
  return text, jax.jit(text.fill), text_sampling(c.sample)


def logits_of(tokens, sure, V):
  """Logits [1, N, V] that say these tokens, the surer the larger."""
  return jnp.asarray(sure)[None, :, None] * jax.nn.one_hot(jnp.asarray([tokens]), V)


def fill(steps, tokens, sure, known, images=True, **sample):
  text, run, sampling = filler(steps, **sample)
  logits = logits_of(tokens, sure, text.vocabulary.size)
  found = []
  for j in range(text.steps):
    key = jax.random.key(0)[None]
    known = run(logits, jnp.asarray(known), j, key, np.array([images]), sampling)
    found.append(known[0].tolist())
  return found


def test_the_surest_tokens_stay_and_what_was_given_stands():
  a, b, c, d = b"abcd"
  assert fill(4, [a, b, c, d], [9.0, 7.0, 8.0, 6.0], [[-1] * 4]) == [
    [a, -1, -1, -1], [a, -1, c, -1], [a, b, c, -1], [a, b, c, d]
  ]  # fmt: skip
  ends_last = fill(2, [a, b, EOS, PAD], [6.0, 5.0, 9.0, 9.0], [[-1] * 4])
  assert ends_last == [[a, b, -1, -1], [a, b, EOS, PAD]]
  given = fill(2, [a, b, c, d], [9.0, 7.0, 8.0, 6.0], [[d, d, -1, -1]])
  assert given[-1] == [d, d, c, d]


def test_behind_an_end_stands_padding_and_no_image_begins_unasked():
  a = ord("a")
  assert fill(1, [a, EOS, a, EOS], [9.0] * 4, [[-1] * 4]) == [[a, EOS, PAD, PAD]]
  assert fill(1, [a, BOI, a, a], [9.0] * 4, [[-1] * 4]) == [[a, BOI, PAD, PAD]]
  (known,) = fill(1, [a, BOI, a, a], [9.0] * 4, [[-1] * 4], images=False)
  assert known[1] != BOI


def test_one_step_is_the_independent_categorical():
  text, run, sampling = filler(1, sample__temperature=1.0)
  logits = np.full((1, N, text.vocabulary.size), -1e9, np.float32)
  p = np.array([0.5, 0.3, 0.2])
  logits[0, :, [10, 11, 12]] = np.log(p)[:, None]
  one = lambda key: run(
    logits, jnp.full((1, N), -1), 0, key[None], np.array([True]), sampling
  )[0]
  drawn = np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(0), 4000)))
  share = np.stack([(drawn == t).mean(0) for t in (10, 11, 12)], -1)
  np.testing.assert_allclose(share, np.tile(p, (N, 1)), atol=0.04)
  both = ((drawn[:, 0] == 10) & (drawn[:, 1] == 10)).mean()
  np.testing.assert_allclose(both, 0.25, atol=0.04)
