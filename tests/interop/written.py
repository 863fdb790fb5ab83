"""Releases against what is read and written of them."""

import shutil

import numpy as np
import pytest

from tests.interop import keys
from tests.interop.asked import QUIET
from unijax.interop import files, importing, matching, system


def same_weights(release, out, without=frozenset()):
  """Both have the same arrays, but for those `without`; (theirs, ours), opened."""
  there, here = files.open_weights(release), files.open_weights(out)
  assert set(here) == set(there) - without
  for name, entry in here.items():
    np.testing.assert_array_equal(entry.read(), there[name].read(), err_msg=name)
  return there, here


def refused(name: str, release, damage, error, said: str, place):
  """A damaged copy of a release is refused in these words, and no run is begun."""
  folder = place / "release"
  shutil.copytree(release, folder)
  damage(folder)
  with pytest.raises(error, match=said):
    importing.import_run(name, folder, place / "run", say=QUIET)
  assert not (place / "run").exists()


def used(name: str, size: str, own: str, part: str, prefix: str):
  """What a system and its one part make of two published lists.

  Args:
    name, size: of the system.
    own, part: lists of its names, and of its part's; these have `prefix` in front.

  Returns:
    (all names, report of the whole, report of the part).
  """
  chosen = system.load(name)
  (inner,) = chosen.parts().values()
  theirs = {f"{prefix}{n}": x for n, x in keys.read(part)[0].items()}
  theirs |= keys.read(own)[0]
  reports, fields = [], chosen.sizes()[size]
  for one, names in ((chosen, theirs), (inner, inner.own(theirs))):
    config = one.config(one.fields(fields, theirs))
    reports.append(
      matching.match(one.table(config), system.leaves(config), names).report
    )
    assert reports[-1].fits, reports[-1].text()
  return set(theirs), *reports
