"""How many threads torch is fastest with: small products lose more at its barriers."""

import torch


def fastest_threads(measure, most: int, less_is_faster: bool):
  """Returns `measure` under the thread count it is fastest with, and that count."""
  results = {}
  for count in range(1, most + 1):
    torch.set_num_threads(count)
    measure()
    results[count] = measure()
  best = (min if less_is_faster else max)(results, key=results.get)

  def with_threads() -> float:
    torch.set_num_threads(best)
    return measure()

  return with_threads, best
