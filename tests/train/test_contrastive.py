"""Contrastive losses are the plain formulas, in any number of parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unijax.nn.dual_encoder import at_most, unit
from unijax.train import contrastive

B, Q, E = 12, 2, 5
SCALE, BIAS = 7.0, -3.0


def vectors(queries: int = 1):
  """(pictures, texts, captions); the captions of rows 2 and 7 are equal."""
  keys = jax.random.split(jax.random.key(0))
  images = unit(jax.random.normal(keys[0], (B, queries, E)))
  texts = unit(jax.random.normal(keys[1], (B, E)))
  captions = np.arange(B, dtype=np.uint32)
  captions[7] = captions[2]
  return images, texts, captions


def cosines(images, texts):
  images, texts = np.asarray(images, np.float64), np.asarray(texts, np.float64)
  return np.asarray([[max(x @ y for x in rows) for y in texts] for rows in images])


def numpy_softmax(images, texts, captions):
  logits, losses, right = SCALE * cosines(images, texts), [], []
  for matrix in (logits, logits.T):
    for i, row in enumerate(matrix):
      kept = [j for j in range(B) if j == i or captions[j] != captions[i]]
      losses.append(np.log(np.exp(row[kept]).sum()) - row[i])
      right.append(row[i] == row[kept].max())
  return np.mean(losses), np.mean(right)


def numpy_sigmoid(images, texts, captions):
  total, cosine = 0.0, cosines(images, texts)
  for i in range(B):
    for j in range(B):
      if i == j or captions[i] != captions[j]:
        sign = 1.0 if i == j else -1.0
        total += np.log1p(np.exp(-sign * (SCALE * cosine[i, j] + BIAS)))
  return total / B


@pytest.mark.parametrize("chunks", [1, 3, 12])
@pytest.mark.parametrize("queries", [1, Q])
def test_softmax_is_the_formula(chunks, queries):
  given = vectors(queries)
  out = contrastive.softmax_loss(*given, SCALE, chunks)
  loss, accuracy = numpy_softmax(*given)
  np.testing.assert_allclose(out.nll.mean(), loss, rtol=1e-5)
  np.testing.assert_allclose(out.accuracy.mean(), accuracy, rtol=1e-6)


@pytest.mark.parametrize("chunks", [1, 3, 12])
def test_sigmoid_is_the_formula(chunks):
  given = vectors()
  loss = contrastive.sigmoid_loss(*given, SCALE, BIAS, chunks)
  np.testing.assert_allclose(loss.mean(), numpy_sigmoid(*given), rtol=1e-5)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_parts_change_no_gradient(kind):
  images, texts, captions = vectors()

  def loss(images, texts, scale, bias, chunks):
    if kind == "softmax":
      return contrastive.softmax_loss(images, texts, captions, scale, chunks).nll.mean()
    return contrastive.sigmoid_loss(images, texts, captions, scale, bias, chunks).mean()

  given = (images, texts, jnp.asarray(SCALE), jnp.asarray(BIAS))
  whole, parts = (jax.grad(loss, (0, 1, 2, 3))(*given, n) for n in (1, 4))
  for a, b in zip(whole, parts, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_no_part_holds_all_similarities():
  images, texts, captions = vectors()

  def largest(chunks):
    loss = lambda x: contrastive.softmax_loss(x, texts, captions, 1.0, chunks).nll.value
    text = jax.jit(jax.grad(loss)).lower(images).as_text()
    return f"{B}x{B}xf32" in text

  assert largest(1) and not largest(3)


def test_wrong_pairs_are_wrong_and_the_likeliest():
  images, texts, captions = vectors()
  draw = jax.jit(contrastive.hard_negatives, static_argnums=3)
  keys = np.arange(B, dtype=np.uint32)
  many = [draw(images, texts, captions, 20.0, jax.random.key(i), keys)
          for i in range(50)]  # fmt: skip
  text, image, exists = (np.stack(x) for x in zip(*many, strict=True))
  assert exists.all()
  assert (captions[text] != captions).all() and (captions[image] != captions).all()
  cosine = cosines(images, texts)
  cosine[captions[:, None] == captions] = -9
  common = lambda x: np.asarray([np.bincount(c).argmax() for c in x.T])
  assert (common(text) == cosine.argmax(1)).mean() > 0.7
  assert (common(image) == cosine.argmax(0)).mean() > 0.7


def test_a_batch_of_one_text_has_no_wrong_one():
  images, texts, _ = vectors()
  same, keys = np.zeros(B, np.uint32), np.arange(B, dtype=np.uint32)
  drawn = contrastive.hard_negatives(images, texts, same, 1.0, jax.random.key(0), keys)
  assert not drawn[2].any()
  out = contrastive.softmax_loss(images, texts, same, SCALE)
  assert out.nll.value == 0


def test_the_scale_stops_at_its_limit_and_comes_back():
  slope = jax.grad(lambda x, sign: sign * at_most(x, 2.0))
  assert at_most(jnp.asarray(3.0), 2.0) == 2.0
  assert slope(1.0, -1.0) == -1.0  # below: free
  assert slope(3.0, -1.0) == 0.0  # a descent would raise it: stopped
  assert slope(3.0, 1.0) == 1.0  # a descent lowers it: free
