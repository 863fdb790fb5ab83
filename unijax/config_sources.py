"""Sources of data of a config: their fields, some of which have defaults."""

from unijax.config_sections import SourceConfig
from unijax.config_values import check_names, mapping, typed


def read_sources(values, problems: list[str]) -> tuple[SourceConfig, ...]:
  """Sources of a config; what is wrong with one is added to the problems."""
  sources = []
  for name, entry in mapping("data.sources", values, problems).items():
    path = f"data.sources.{name}."
    entry = mapping(path[:-1], entry, problems)
    factors = {"reference": 0.0, "text_loss": 1.0, "image_loss": 1.0}
    optional = {"schedule": (), **factors}
    known = {"kind", "weight", "options", *optional}
    check_names(path, {**optional, **entry}, known, problems)
    if {"kind", "weight", "options"} <= set(entry):
      weight = typed(f"{path}weight", float, entry["weight"], problems)
      kind = typed(f"{path}kind", str, entry["kind"], problems)
      options = {
        k: v.to_dict() if hasattr(v, "to_dict") else v
        for k, v in mapping(f"{path}options", entry["options"], problems).items()
      }
      schedule = _schedule(f"{path}schedule", entry.get("schedule", ()), problems)
      rest = [
        typed(path + key, float, entry.get(key, default), problems)
        for key, default in factors.items()
      ]
      sources.append(SourceConfig(name, kind, weight, options, schedule, *rest))
  return tuple(sources)


def _schedule(path, points, problems) -> tuple[tuple[int, float], ...]:
  try:
    return tuple(
      (typed(path, int, step, problems), typed(path, float, weight, problems))
      for step, weight in points
    )
  except (TypeError, ValueError):
    problems.append(f"{path}: expected [[step, weight], ...], got {points!r}")
    return ()
