"""The autoencoder in the folder `vae` of a pipeline, as a part of systems."""

from ml_collections import ConfigDict

from configs.released import autoencoder_kl
from configs.released.autoencoder_kl import KEYS, OURS_ONLY, SIZES  # noqa: F401


def get_config(published) -> ConfigDict:
  """Our config, of what the files tell and of what its config.json says."""
  told = {name: published[name] for name in SIZES if name in published}
  return autoencoder_kl.get_config(published.part("vae.").given(**told))
