"""The error of a wrong config, and the help that goes with a wrong name."""

import difflib
from collections.abc import Iterable


class ConfigError(ValueError):
  """The config is wrong. The message lists every problem found, one a line."""


def nearest(name: str, known: Iterable[str]) -> str:
  """Returns ' (did you mean ...?)' for the known name closest to a wrong one."""
  match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
  return f" (did you mean {match[0]!r}?)" if match else ""
