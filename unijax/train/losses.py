"""The losses of training by the names that its other parts use."""

from unijax.types import Sum
from unijax.write.losses import NOISE_LEVELS, image_mse, text_nll

__all__ = ["NOISE_LEVELS", "Sum", "image_mse", "text_nll"]
