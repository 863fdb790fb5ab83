"""The task of drawing: captions in, pictures out, nothing else."""

from jax.sharding import Mesh

from unijax.config import Config
from unijax.data.drawings import DrawingLoader
from unijax.nn.text_to_image import make_text_to_image
from unijax.scale import layout
from unijax.train import drawing
from unijax.train.tasks import Task
from unijax.types import Drawings


class DrawingTask(Task):
  """A diffusion transformer on captioned pictures, and its text encoder."""

  shown = (("image", "image_mse"),)
  loader = staticmethod(DrawingLoader)

  def __init__(self, config: Config, vocab: int):
    super().__init__(config, vocab)
    self.model = make_text_to_image(config, vocab)

  def init_params(self, key):
    return drawing.init_params(self.config, self.model, key)

  def total_weights(self, batch: Drawings):
    return drawing.total_weights(batch)

  def loss(self, params, batch: Drawings, key, weights=None):
    if weights is None:
      weights = self.total_weights(batch)
    return drawing.loss_fn(params, self.model, self.config, batch, key, weights)

  def batch_axes(self) -> Drawings:
    return Drawings(
      tokens_BS=("batch", None), length_B=("batch",), patches_BPC=("batch", None, None),
      key_B=("batch",),
    )  # fmt: skip

  def check(self, mesh: Mesh) -> None:
    super().check(mesh)
    layout.check_heads(mesh, "dit", heads=self.config.dit.heads)
    m = self.config.model
    layout.check_heads(mesh, "model", heads=m.heads, kv_heads=m.kv_heads)

  def describe(self) -> str:
    return f"pictures with captions of {self.config.data.caption_length} tokens"
