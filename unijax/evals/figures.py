"""Scores: where they are, which are better when less, and which are shares."""

SCORES = "scores.json"  # in the folder of a run that was scored
HELD_OUT = "held-out "  # before the name of a held-out loss
LOWER = ("bits per byte", "kid_lite")  # less is better; the rest is more
NO_SHARES = ("psnr", "perplexity", "ssim", *LOWER)  # figures that are no percentages
_ERRORS = ("loss", "nll", "mse", "error", "kl", "l1", "l2")  # in names of losses


def lower(name: str) -> bool:
  """Whether less of a score is better."""
  if not name.startswith(HELD_OUT):
    return name in LOWER
  return any(word in _ERRORS for word in name.removeprefix(HELD_OUT).split("_"))


def share(name: str) -> bool:
  """Whether a score is read as a percentage."""
  return name not in NO_SHARES and not name.startswith(HELD_OUT)


def show(name: str, value: float) -> str:
  """A score for people; of a share its percentage, without the sign."""
  return f"{100 * value:.1f}" if share(name) else f"{value:.4g}"
