"""What a release and what was written back of it have in common."""

import numpy as np

from unijax.interop import files


def same_weights(release, out, without=frozenset()):
  """Both have the same arrays, but for those `without`; (theirs, ours), opened."""
  there, here = files.open_weights(release), files.open_weights(out)
  assert set(here) == set(there) - without
  for name, entry in here.items():
    np.testing.assert_array_equal(entry.read(), there[name].read(), err_msg=name)
  return there, here
