"""The autoencoder in the folder `vae` of a pipeline, as a part of systems."""

from ml_collections import ConfigDict

from configs.released import _parts, autoencoder_kl
from configs.released.autoencoder_kl import KEYS, OURS_ONLY, SIZES  # noqa: F401


def get_config(published) -> ConfigDict:
  """Our config, of what the files tell and of what its config.json says."""
  return _parts.autoencoder(autoencoder_kl, published)
