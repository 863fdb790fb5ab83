"""Ways to write images: what each adds to the loss, and how it draws an image.

`WRITE_PATHS` has a class for every value of `model.write`; training and sampling know
nothing else of them.
"""

from unijax.config import Config
from unijax.write.base import WritePath
from unijax.write.bridge import Bridged
from unijax.write.diffusion import Diffusion
from unijax.write.in_order import Codes
from unijax.write.masked import Masked
from unijax.write.masked_all import MaskedAll
from unijax.write.masked_diffusion import MaskedDiffusion
from unijax.write.mixture import Mixture
from unijax.write.none import Nothing
from unijax.write.regression import Regression
from unijax.write.token_diffusion import TokenDiffusion

WRITE_PATHS: dict[str, type[WritePath]] = {
  "diffusion": Diffusion,
  "codes": Codes,
  "masked": Masked,
  "token_diffusion": TokenDiffusion,
  "gmm": Mixture,
  "bridge": Bridged,
  "regression": Regression,
  "masked_all": MaskedAll,
  "masked_diffusion": MaskedDiffusion,
  "none": Nothing,
}


def make_write_path(config: Config, vocab: int) -> WritePath:
  """Returns the way a config writes images; `vocab` is the size of the token table."""
  return WRITE_PATHS[config.model.write](config, vocab)
