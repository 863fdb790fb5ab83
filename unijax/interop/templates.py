r"""Names with gaps: `decoder.up.{i}.block.{b}.conv1.weight`.

A gap holds a whole number: {i}, {i+1}, {2*i}, {2*i+1}, or {~i}, which counts from the
other end. A name may begin with <group>: one of the prefixes that its group allows.
"""

import re
from collections.abc import Mapping, Sequence

GAP = re.compile(r"\{(~|\d+\*)?([a-z]+)([+-]\d+)?\}")
GROUP = re.compile(r"<([a-z_]+)>")


def gaps(template: str) -> list[str]:
  """Letters of the gaps, in order, each once."""
  return list(dict.fromkeys(m[2] for m in GAP.finditer(template)))


def matcher(template: str) -> re.Pattern:
  """The pattern of names that fill a template, whose gaps are plain ones."""
  regex, at = "", 0
  for gap in GAP.finditer(template):
    regex += re.escape(template[at : gap.start()]) + rf"(?P<{gap[2]}>\d+)"
    at = gap.end()
  return re.compile(regex + re.escape(template[at:]))


def fill(
  template: str, values: Mapping[str, int], counts: Mapping[str, int],
  prefixes: Mapping[str, str],
) -> str:  # fmt: skip
  """Returns the name for these values.

  Args:
    template: may begin with a group.
    values: of its gaps.
    counts: how many values each gap has, for those that count from the other end.
    prefixes: by group.
  """

  def number(gap: re.Match) -> str:
    value = values[gap[2]]
    if gap[1] == "~":
      value = counts[gap[2]] - 1 - value
    elif gap[1]:
      value *= int(gap[1][:-1])
    return str(value + int(gap[3] or 0))

  return GAP.sub(number, GROUP.sub(lambda m: prefixes[m[1]], template))


def groups(templates: Sequence[str]) -> set[str]:
  """Groups that templates begin with."""
  return {m[1] for t in templates for m in GROUP.finditer(t)}
