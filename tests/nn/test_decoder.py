"""The decoder against a plain one in NumPy, for every value of the knobs of its blocks."""

import math

import jax
import numpy as np
import pytest

from tests import small
from unijax.config import ConfigError

TEXT = dict(
  model__write="none", model__image_mask="causal", model__kv_heads=2, model__heads=4,
  model__norm_eps=1e-3, model__rope_theta=100.0,
)  # fmt: skip
# Each value of an axis stands in some variant.
VARIANTS = {
  "pre": dict(model__bias="qkv", model__qk_norm=False),
  "branch": dict(
    model__block="branch", model__qk_norm_kind="layer_heads", model__bias="attention",
    model__mlp="gelu", model__rope_factor=8.0, model__rope_length=20,
  ),
  "parallel": dict(
    model__block="parallel", model__norm="layer", model__qk_norm_kind="layer",
    model__mlp="gelu_tanh", model__bias="all", model__head_bias=True,
    model__rope_fraction=0.5,
  ),
  "stretched": dict(
    model__mlp="quick_gelu", model__rope_factor=2.0, model__rope_length=0,
    model__tie_embeddings=True,
  ),
  "learned": dict(
    model__positions="learned", model__position_rows=70, model__position_first=3,
    model__mlp="relu", model__norm="layer", model__bias="all", model__qk_norm=False,
  ),
}  # fmt: skip


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


ACTIVATIONS = {
  "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
  "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
  "quick_gelu": lambda x: x * sigmoid(1.702 * x),
  "relu": lambda x: np.maximum(x, 0),
}  # fmt: skip


def linear(p, x):
  return x @ p["kernel"] + p.get("bias", 0)


def norm(p, x, kind, eps):
  x = x - x.mean(-1, keepdims=True) if kind != "rms" else x
  return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * p["scale"] + p.get(
    "bias", 0
  )


def speeds(m):
  """Radians a position, pair by pair."""
  pairs = round(m.head_dim * m.rope_fraction) // 2
  found = []
  for k in range(pairs):
    speed = m.rope_theta ** (-k / pairs)
    turns = m.rope_length * speed / (2 * math.pi)
    share = min(max((turns - m.rope_low) / (m.rope_high - m.rope_low), 0), 1)
    found.append(share * speed + (1 - share) * speed / m.rope_factor)
  return np.array(found)


def turn(x_THK, m):
  speed = speeds(m)
  n, out = len(speed), x_THK.copy()
  for t in range(len(x_THK)):
    for k, angle in enumerate(t * speed):
      a, b = x_THK[t, :, k], x_THK[t, :, k + n]
      out[t, :, k] = a * np.cos(angle) - b * np.sin(angle)
      out[t, :, k + n] = b * np.cos(angle) + a * np.sin(angle)
  return out


def attention(p, x, m):
  T = len(x)
  heads = {"q": m.heads, "k": m.kv_heads, "v": m.kv_heads}
  q, k, v = (linear(p[n], x).reshape(T, h, m.head_dim) for n, h in heads.items())
  if m.qk_norm:
    q, k = (
      norm(p[n], y, m.qk_norm_kind, m.norm_eps)
      for n, y in (("q_norm", q), ("k_norm", k))
    )
  if m.positions != "learned":
    q, k = turn(q, m), turn(k, m)
  mixed = np.zeros_like(q)
  for h in range(m.heads):
    g = h * m.kv_heads // m.heads
    for t in range(T):
      score = k[: t + 1, g] @ q[t, h] / math.sqrt(m.head_dim)
      weight = np.exp(score - score.max())
      mixed[t, h] = weight / weight.sum() @ v[: t + 1, g]
  return linear(p["out"], mixed.reshape(T, -1))


def mlp(p, x, m):
  if m.mlp == "swiglu":
    gate = linear(p["gate"], x)
    return linear(p["down"], gate * sigmoid(gate) * linear(p["up"], x))
  return linear(p["down"], ACTIVATIONS[m.mlp](linear(p["up"], x)))


def block(p, x, m):
  def normed(name, y):
    return norm(p[f"{name}_norm"], y, m.norm, m.norm_eps)

  if m.block == "parallel":
    y = normed("attention", x)
    return x + attention(p["attention"], y, m) + mlp(p["mlp"], y, m)
  if m.block == "branch":
    x = x + normed("attention", attention(p["attention"], x, m))
    return x + normed("mlp", mlp(p["mlp"], x, m))
  x = x + attention(p["attention"], normed("attention", x), m)
  return x + mlp(p["mlp"], normed("mlp", x), m)


def plain(params, tokens, m):
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  table = p["embedding"]["table"]
  x = table[tokens]
  if m.positions == "learned":
    x = x + p["transformer"]["position"][m.position_first :][: len(x)]
  for i in range(m.depth):
    x = block(jax.tree.map(lambda a: a[i], p["transformer"]["blocks"]), x, m)  # noqa: B023
  h = norm(p["transformer"]["final_norm"], x, m.norm, m.norm_eps)
  return h @ table.T if m.tie_embeddings else linear(p["text_head"], h)


@pytest.mark.parametrize("name", VARIANTS)
def test_equals_the_plain_decoder(name):
  c = small.config(**TEXT, **VARIANTS[name])
  params = small.params(c, 0)
  row = small.batch(c, [small.plain("seventeen letters")])
  logits, _ = small.forward(c)(params, small.inputs(c, row))
  count = int((row.segment_BT[0] > 0).sum())
  wanted = plain(params, row.tokens_BT[0, :count], c.model)
  assert abs(logits[0, :count] - wanted).max() < 2e-5 * abs(wanted).max()


@pytest.mark.parametrize(
  ("value", "maps"),
  [
    ("none", ""), ("qkv", "q k v"), ("attention", "q k v out"),
    ("all", "q k v out gate up down"),
  ],
)  # fmt: skip
def test_biases_stand_where_the_knob_says(value, maps):
  c = small.config(**TEXT, model__bias=value)
  shapes = jax.eval_shape(small.functions(c).init).params
  found = [p for p, _ in jax.tree.leaves_with_path(shapes) if "bias" in str(p[-1])]
  assert {p[-2].key for p in found} == set(maps.split())


def test_wavelengths_keep_their_order_and_only_slow_ones_stretch():
  whole, stretched = (
    speeds(small.config(**TEXT, model__head_dim=32, model__rope_length=100, **k).model)
    for k in ({}, {"model__rope_factor": 8.0})
  )
  turns = 100 * whole / (2 * math.pi)
  np.testing.assert_allclose(stretched[turns > 4], whole[turns > 4])
  np.testing.assert_allclose(stretched[turns < 1], whole[turns < 1] / 8)
  assert (turns > 4).any() and (turns < 1).any() and (np.diff(stretched) < 0).all()


@pytest.mark.parametrize(
  ("knobs", "message"),
  [
    (dict(model__rope_fraction=0.3), "model.head_dim: 16 x model.rope_fraction 0.3"),
    (dict(model__rope_fraction=0.0), "model.rope_fraction: 0.0 must be in"),
    (dict(model__rope_high=1.0), "model.rope_high: 1.0 must be > model.rope_low 1.0"),
    (dict(model__head_bias=True, model__tie_embeddings=True), "model.head_bias"),
    (
      dict(
        model__positions="learned", model__position_rows=65, model__position_first=2
      ),
      "model.position_rows: 65 vectors, and data.seq_len=64 .* need 66",
    ),
    (dict(model__read="both"), "model.read: 'both' reads images as they are written"),
    (dict(data__chat=(("usr", "x"),)), "data.chat: no part 'usr' .did you mean 'user'"),
  ],
)
def test_what_does_not_fit_is_named(knobs, message):
  with pytest.raises(ConfigError, match=message):
    small.config(**{**TEXT, **knobs})
