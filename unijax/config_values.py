"""Values of knobs against their names and types; what is wrong is added to a list."""

import math
import types
import typing
from typing import Any, Literal

from unijax.errors import nearest


def check_names(path, values, known, problems) -> None:
  """Every name must be known and be there; `path` ends with a dot or is empty."""
  for name in values:
    if name not in known:
      hint = nearest(name, known) or f"; known here: {', '.join(sorted(known))}"
      problems.append(f"{path}{name}: unknown knob{hint}")
  for name in sorted(known - set(values)):
    problems.append(f"{path}{name}: missing (configs start from configs/base.py)")


def mapping(path, value, problems) -> dict[str, Any]:
  """Returns the value as a dict; an empty one where it has no names."""
  if hasattr(value, "items"):
    return dict(value.items())
  problems.append(f"{path}: expected named values, got {value!r}")
  return {}


def typed(path, hint, value, problems):
  """Returns the value as the type of its knob: a Literal, a tuple, float, int, ..."""
  if typing.get_origin(hint) is Literal:
    choices = typing.get_args(hint)
    if value not in choices:
      hint_text = nearest(str(value), choices)
      problems.append(
        f"{path}: {value!r} is not one of {', '.join(choices)}{hint_text}"
      )
    return value
  if typing.get_origin(hint) is types.UnionType:  # one value, or a tuple of such
    one, several = typing.get_args(hint)
    hint = several if isinstance(value, list | tuple) else one
  if typing.get_origin(hint) is tuple:
    return typed_tuple(path, typing.get_args(hint), value, problems)
  if hint is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  if hint is float and isinstance(value, float) and not math.isfinite(value):
    problems.append(f"{path}: {value} is not a finite number")
    return value
  if type(value) is not hint:
    problems.append(
      f"{path}: expected {hint.__name__}, got {type(value).__name__} {value!r}"
    )
  return value


def typed_tuple(path, hints, value, problems) -> tuple:
  """Any number of values where the second hint is `...`, else one for each hint."""
  if not isinstance(value, list | tuple):
    problems.append(f"{path}: expected a tuple, got {value!r}")
    return ()
  if hints[-1] is ...:
    hints = hints[:1] * len(value)
  if len(hints) != len(value):
    problems.append(f"{path}: expected {len(hints)} values, got {tuple(value)!r}")
    return ()
  return tuple(
    typed(path, hint, x, problems) for hint, x in zip(hints, value, strict=True)
  )
