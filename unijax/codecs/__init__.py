"""What turns media into latents and back. Patches are cut from latents.

`CODECS` names the codecs a config may choose; each has `stride` (pixels a
latent), `channels` (numbers a latent), `encode` and `decode`.
"""

from unijax.codecs.pixels import PixelCodec

CODECS = {"pixels": PixelCodec()}
