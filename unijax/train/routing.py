"""Losses and metrics of routed experts, from what their routers said.

Every position that is no padding counts alike, whatever it is trained for, and all
layers weigh the same. Shape letters besides those of `types`: E experts, k of them a
position, M modalities (text, image), Q pools of experts that compete for positions.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from unijax.config import Config
from unijax.nn import logical, modality
from unijax.nn.modality import MODALITIES
from unijax.nn.moe import ROUTING
from unijax.types import Batch, Sum

# Which modalities compete for the same experts: bool [Q, M].
POOLS = {"joint": np.ones((1, 2)), "by_modality": np.eye(2)}


class Load(NamedTuple):
  """Counts over the positions of a batch; those of its parts add up."""

  chosen_NME: jax.Array  # float32: positions that chose an expert, by layer
  positions_M: jax.Array  # float32


def _modalities(batch: Batch) -> jax.Array:
  """float32 [B, T, M]: 1 at the modality of a position, 0 for padding."""
  image, used = modality.written(batch), batch.segment_BT > 0
  return jnp.stack([used & ~image, used & image], axis=-1).astype(jnp.float32)


def load(routed, batch: Batch) -> Load | None:
  """Counts what the routers of the blocks chose.

  Args:
    routed: collections of the model that changed: ROUTING, or none.
    batch: that the model read.
  """
  if not routed:
    return None
  logits_NBTE, chosen_NBTk = _sown(routed)
  modality_BTM = _modalities(batch)
  hits_NBTE = jax.nn.one_hot(chosen_NBTk, logits_NBTE.shape[-1]).sum(axis=-2)
  chosen_NME = jnp.einsum("nbte,btm->nme", hits_NBTE, modality_BTM)
  return Load(chosen_NME, modality_BTM.sum(axis=(0, 1)))


def losses(
  config: Config, routed, batch: Batch, total: Load | None
) -> tuple[jax.Array, dict[str, Sum]]:
  """What routing adds to the loss of a batch, and its metrics.

  The balance loss is that of Fedus et al. 2021, eq. 4: E * sum_e f_e * p_e, with f_e
  the share of choices that fell on expert e and p_e its mean probability, both over the
  whole batch; 1 where either is even. Experts that only one modality may choose are
  balanced among themselves, weighted by its positions. The z-loss is the mean of
  log^2 Z of the router (Zoph et al. 2022, eq. 5).

  Args:
    config: for the weights of the two.
    routed: as for `load`.
    batch: that the model read, perhaps a part of a larger one.
    total: load of the larger one; of this one if None.

  Returns:
    (scalar, the two losses, load by expert and entropy of the router by modality).
  """
  here = load(routed, batch)
  if here is None:
    return jnp.zeros(()), {}
  m, t = config.model, config.train
  total = total or here
  logits_NBTE, _ = _sown(routed)
  modality_BTM = _modalities(batch)
  log_p_NBTE = jax.nn.log_softmax(logits_NBTE, axis=-1)
  p_NBTE = jnp.exp(log_p_NBTE)
  p_NME = jnp.einsum("nbte,btm->nme", p_NBTE, modality_BTM)
  layers, positions = len(p_NME), total.positions_M.sum()

  pools_QM = POOLS[m.expert_routing]
  share_NQE = jnp.einsum("nme,qm->nqe", total.chosen_NME, pools_QM)
  positions_Q = _at_least_one(pools_QM @ total.positions_M)
  share_NQE /= m.experts_per_token * positions_Q[:, None]
  even = m.experts / len(pools_QM)  # experts of a pool
  balance = even * jnp.einsum("nqe,nme,qm->", share_NQE, p_NME, pools_QM)
  log_z_NBT = jax.nn.logsumexp(logits_NBTE, axis=-1)
  log_z = jnp.einsum("nbt,btm->", log_z_NBT**2, modality_BTM)
  divisor = layers * _at_least_one(positions)
  loss = (t.balance_loss_weight * balance + t.router_z_loss * log_z) / divisor

  weight = layers * here.positions_M.sum()
  entropy_NBT = -jnp.sum(p_NBTE * log_p_NBTE, axis=-1)
  entropy_M = jnp.einsum("nbt,btm->m", entropy_NBT, modality_BTM)
  return loss, {
    "balance_loss": Sum(balance, weight),
    "router_log_z": Sum(log_z, weight),
    **_by_modality(here, entropy_M, m.experts_per_token),
  }


def _by_modality(here: Load, entropy_M, per_token: int) -> dict[str, Sum]:
  """Entropy of the router and load of experts by modality; choices that got lost."""
  layers, _, experts = here.chosen_NME.shape
  expected = per_token * layers * here.positions_M.sum()
  metrics = {"experts_dropped": Sum(expected - here.chosen_NME.sum(), expected)}
  for i, name in enumerate(MODALITIES):
    count = layers * here.positions_M[i]
    metrics[f"router_entropy/{name}"] = Sum(entropy_M[i], count)
    for expert in range(experts):
      chosen = here.chosen_NME[:, i, expert].sum()
      metrics[f"expert_load/{name}/{expert:02d}"] = Sum(chosen, per_token * count)
  return metrics


def _sown(routed) -> tuple[jax.Array, jax.Array]:
  """(logits [N, B, T, E], choices [N, B, T, k]) of the layers under the scan."""
  found = routed[ROUTING]["transformer"]["blocks"]["mlp"]
  (logits,), (chosen,) = found["logits"], found["chosen"]
  return tuple(
    logical.constrain(x, None, "batch", "sequence", None) for x in (logits, chosen)
  )


def _at_least_one(x):
  return jnp.maximum(x, 1.0)
