"""Pictures that are drawn from noise that both sides are given."""

import dataclasses

import numpy as np


def drawn(config, params, builder, prompts, noise_NPC):
  """What sampling draws of prompts, and what the imported codec makes of it.

  Args:
    config: of the run; its sample section decides how.
    params: weights.
    builder: of rows.
    prompts: one for each picture of the noise.
    noise_NPC: what sampling begins from.

  Returns:
    {"latents": patches [N, P, C], "pixels": float in -1 .. 1}.
  """
  found = latents(rows(config, params, builder, prompts, noise_NPC))
  return {"latents": found, "pixels": shown(config, found)}


def rows(config, params, builder, prompts, noise_NPC):
  """The rows that sampling makes, as `drawn`."""
  import jax.numpy as jnp

  from unijax.infer.batch import RowBatch
  from unijax.infer.generate import Generator

  generator = Generator(config, params, builder, len(prompts))
  noise = jnp.asarray(noise_NPC)
  generator.functions.begin_image = lambda caches, keys: (noise, 0 * noise)
  batch = RowBatch(generator, prompts, 0)
  batch.run()
  return batch.rows


def latents(made):
  """Patches of the last image of each row."""
  return np.stack([row.tracks[0].images[-1][1] for row in made])


def shown(config, patches_NPC):
  """Pictures, float in -1 .. 1, that the imported codec makes of patches."""
  from unijax.codecs import artefact, frozen
  from unijax.codecs.pixels import unpatchify

  about = artefact.read(config.data.codec)
  weights = artefact.read_weights(config.data.codec, about)
  z = unpatchify(patches_NPC, config.data.patch_size, config.grid)
  z = z / about.scale + about.shift
  return frozen.form(about.codec).run("decode", weights, z)


def sampled(config, **knobs):
  """The config with other knobs of its sample section."""
  return dataclasses.replace(config, sample=dataclasses.replace(config.sample, **knobs))
