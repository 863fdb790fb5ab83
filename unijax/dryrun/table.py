"""A plan for people."""

from unijax.dryrun.chips import GIB
from unijax.dryrun.collectives import KINDS
from unijax.report import plain_table


def lines(report: dict) -> list[str]:
  """Returns the lines of a report of `plan.plan`."""
  if "stages" in report:
    return [line for one in report["stages"] for line in (*lines(one), "")][:-1]
  out = [f"== stage {' and '.join(report['stage'])}"] if "stage" in report else []
  mesh = " x ".join(f"{a} {n}" for a, n in report["mesh"].items()) or "1 device"
  out += [
    f"{report['topology']}: {report['devices']:,} devices, mesh {mesh}; "
    f"{report['batch']} a step; compiled in "
    f"{report['compile_seconds']:.0f} s ({report['compile_cpu_seconds']:.0f} s of "
    f"processor time) by {report['compiler']}",
    "",
    *memory(report["memory_bytes"], report["memory_limit_bytes"]),
  ]
  if not report["fits"]:
    return out + _does_not_fit(report)
  out += ["", *_collectives(report["collectives"])]
  out += ["", *_flops(report["flops"], report.get("rows"))]
  unit = report["unit"]
  out += ["", *cycles(report["cycles"], report["loops_of_unknown_length"], unit)]
  if "roofline" in report:
    out += ["", *_roofline(report["roofline"], unit)]
  return out


def memory(parts: dict, limit: int | None) -> list[str]:
  """Memory of one chip by part."""
  unit, name_of_unit = (GIB, "GiB") if sum(parts.values()) > GIB else (2**20, "MiB")
  rows = [
    [name.replace("_", " "), f"{size / unit:.3f}", ""]
    for name, size in parts.items()
    if size / unit > 5e-4 and name not in ("total", "host")
  ]
  if "total" in parts:
    of = f"of {limit / unit:.2f}: fits" if limit else ""
    rows.append(["total", f"{parts['total'] / unit:.3f}", of])
  if parts.get("host"):
    rows.append(["host memory", f"{parts['host'] / unit:.3f}", ""])
  head = ["memory of one chip", name_of_unit, ""]
  return plain_table(head, rows, left=(0, 2)).splitlines()


def _does_not_fit(report: dict) -> list[str]:
  needs = report["needs_bytes"]
  limit = report["memory_limit_bytes"]
  said = f": needs {needs / GIB:.2f} of {limit / GIB:.2f} GiB" if needs else ""
  out = ["", f"DOES NOT FIT{said}"]
  for tried in report["tried"]:
    out.append(f"  tried {arguments(tried['change'])}: {tried['why']}")
  if report["change"]:
    out += ["the smallest change tried that fits:", f"  {arguments(report['change'])}"]
  else:
    out.append(
      "no change tried fits: raise --search, take more chips, or a smaller "
      "train.batch_size"
    )
  return out


def arguments(change: dict) -> str:
  """A change as arguments of the command line."""
  return " ".join(f"--config.{k}={v}" for k, v in change.items())


def _collectives(rows: list[dict]) -> list[str]:
  if not rows:
    return ["no collectives"]
  cells = [
    [r["kind"], r["axis"], r["network"], f"{r['count']:,}",
     f"{r['sent_bytes'] / GIB:.3f}"]
    for r in rows
  ]  # fmt: skip
  head = ["collectives of a step", "axis", "net", "count", "GiB sent"]
  return plain_table(head, cells, left=(0, 1, 2)).splitlines()


def _flops(f: dict, rows: dict | None) -> list[str]:
  """What a step multiplies; `rows` is known of packed rows only."""
  again = f"; remat computes {f['recomputed']:.4g} more" if f["recomputed"] else ""
  if not rows:
    return [f"model FLOPs of a step {f['model']:.4g}, of all its products{again}"]
  return [
    f"model FLOPs of a step {f['model']:.4g} (visible keys {rows['visible']:,.0f} of "
    f"{rows['positions'] ** 2:,.0f} a row, padding {rows['padding']:.1%}, read off "
    f"{rows['rows']} rows)",
    f"  with padding {f['computed']:.4g}, with hidden keys too {f['dense']:.4g}{again}",
  ]


def cycles(estimate: dict, unknown: list[str], unit: str = "") -> list[str]:
  """The compiler's estimate, and what it does not cover."""
  if not estimate["total"]:
    return ["this compiler estimates no cycles"]
  out = [f"compiler estimate: {estimate['total']:,} cycles of one chip"]
  if "per_unit" in estimate:
    out[0] += f", {estimate['per_unit']:,.0f} chip cycles a {unit}"
  left = estimate["without_estimate"]
  told = sorted((k for k in left if k.split()[0] in TOLD), key=lambda k: -left[k])
  shown = ", ".join(f"{left[k]:,} {k}" for k in told[:6])
  rest = sum(left.values()) - sum(left[k] for k in told[:6])
  out.append(f"  without an estimate: {shown or 'nothing'}, {rest:,} others, waiting")
  if unknown:
    out.append(f"  {len(unknown)} loops of unknown length, counted once")
  return out


# Kinds of instruction whose missing estimate matters most.
TOLD = (*KINDS, *(f"{k}-start" for k in KINDS), "custom-call", "fusion", "copy")


def _roofline(r: dict, unit: str) -> list[str]:
  parts = ", ".join(f"{k} {v * 1e3:,.1f}" for k, v in r["seconds"].items())
  return [
    f"floors of a step, ms: {parts}; no step is faster than "
    f"{r['step_seconds_at_least'] * 1e3:,.1f} ms ({r['bound_by']})",
    f"  at most {r['units_per_second_at_most']:,.0f} {unit}s/s and MFU "
    f"{r['mfu_at_most']:.1%}: bounds, not predictions",
  ]


def sampling_lines(report: dict) -> list[str]:
  """Returns the lines of a report of `sampling.plan`."""
  out = [
    f"sampling on {report['topology']}: {report['rows']} rows of "
    f"{report['slots']:,} cache slots"
  ]
  for name, f in report["functions"].items():
    out += ["", f"{name}: {f['unit']}; compiled in {f['compile_seconds']:.0f} s"]
    out += memory(f["memory_bytes"], report["memory_limit_bytes"])
    if f["fits"]:
      out += cycles(f["cycles"], f["loops_of_unknown_length"])
    else:
      out.append(f"DOES NOT FIT: {_needs(f['needs_bytes'], report)}")
  return out


def _needs(needs: int | None, report: dict) -> str:
  if needs is None:
    return "the compiler ran out of memory"
  return f"needs {needs / GIB:.2f} of {report['memory_limit_bytes'] / GIB:.2f} GiB"
