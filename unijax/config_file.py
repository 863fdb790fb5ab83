"""Reads `--config=FILE[:preset] --config.a.b=value` into a frozen Config."""

import pathlib
import re
from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from unijax.config import Config, ConfigError, from_config_dict


def load(arguments: list[str]) -> Config:
  """Loads a config file with its overrides.

  Args:
    arguments: only `--config...` arguments, `--config=x` or `--config x`.

  Raises:
    ConfigError: as `read`, or whatever `from_config_dict` finds.
  """
  return from_config_dict(read(arguments))


def read(arguments: list[str]) -> ConfigDict:
  """Reads a config file with its overrides, and looks no further into its values.

  Args:
    arguments: as for `load`.

  Raises:
    ConfigError: no such file or preset, an unknown knob (with the nearest known one) or
      a value of the wrong type.
  """
  values = flags.FlagValues()
  argv = ["unijax", *arguments]
  try:
    config_flags.DEFINE_config_file(
      "config", flag_values=values, lock_config=True, sys_argv=argv
    )
    rest = values(argv)[1:]
    config = values.config
    if config is not None:
      config.items()  # a file that failed to load says so only now
  except flags.UnrecognizedFlagError as error:
    raise ConfigError(str(error)) from error
  except (flags.Error, AttributeError, KeyError, OSError, TypeError) as error:
    raise ConfigError(_reason(arguments, error)) from error
  if rest:
    raise ConfigError(
      f"unexpected argument {rest[0]!r}: overrides are --config.a.b=value"
    )
  if config is None:
    raise ConfigError(
      "give --config=FILE, such as --config=configs/transfusion.py:tiny"
    )
  return config


def _reason(arguments: list[str], error: Exception) -> str:
  """One sentence from ml_collections' errors, some of which hold whole tracebacks."""
  text = str(error).strip().replace("\\'", "'").replace("\\n", " ")
  if text[:1] == text[-1:] == "'":
    text = text[1:-1]
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  named = [a.removeprefix("--config=") for a in arguments if a.startswith("--config=")]
  named += [
    b for a, b in zip(arguments, arguments[1:], strict=False) if a == "--config"
  ]
  file = named[0].partition(":")[0] if named else ""
  if file and not pathlib.Path(file).is_file():
    return f"no config file {file!r}: see configs/ for those that come with unijax"
  if isinstance(error, AttributeError | KeyError):
    return f"unknown knob {_whole_names(arguments, ' '.join(lines))}"
  return lines[-1] if "Traceback" in text else " ".join(lines)


def _whole_names(arguments: list[str], text: str) -> str:
  """Puts dotted paths of overrides for the one word of them that nobody knows."""
  word = (re.findall(r"\w+", text) or [""])[0]
  paths = [a.removeprefix("--config.").partition("=")[0] for a in arguments]
  named = [p for p in paths if word in p.split(".")]
  if not named:
    return text
  rest = text.partition(word)[2].lstrip("\"' ")
  return ", ".join(map(repr, named)) + (f": {rest}" if rest else "")


def check_values(words: Sequence[str]) -> None:
  """Refuses words that are not `--config.a.b=VALUE`.

  Raises:
    ConfigError: names the word.
  """
  for word in words:
    if not word.startswith("--config.") or "=" not in word:
      raise ConfigError(
        f"unexpected argument {word!r}: a config's values are --config.a.b=VALUE, in "
        "one word, and config files are named without --config= here"
      )
