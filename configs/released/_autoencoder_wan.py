"""The autoencoder of Wan2.1 in a folder `vae`, as a part of systems."""

from ml_collections import ConfigDict

from configs.released import _parts, wan_vae
from configs.released.wan_vae import KEYS, OURS_ONLY, SIZES  # noqa: F401


def get_config(published) -> ConfigDict:
  """Our config, of what the files tell and of what its config.json says, if any."""
  return _parts.autoencoder(wan_vae, published)
