"""The autoencoder of FLUX.1 in its original layout, as a part of systems that ship it.

Keys and config are those of autoencoder_kl.py, whose other names are written here.
"""

import dataclasses

from ml_collections import ConfigDict

from configs.released import _parts, autoencoder_kl
from unijax.interop.ops import CONV, CONV_OR_LINEAR

OURS_ONLY, SIZES = autoencoder_kl.OURS_ONLY, autoencoder_kl.SIZES
KEYS = tuple(  # of several names the last is the original one
  dataclasses.replace(
    key, theirs=key.theirs[-1], op=CONV if key.op == CONV_OR_LINEAR else key.op
  )
  for key in autoencoder_kl.KEYS
)


def get_config(published) -> ConfigDict:
  """Our config, of what the files tell and of what FLUX.1's autoencoders share."""
  usual = autoencoder_kl.PUBLISHED["flux"]
  return _parts.autoencoder(autoencoder_kl, published, **usual)
