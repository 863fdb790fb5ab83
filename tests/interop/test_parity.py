"""Imported weights compute what the reference computed, and mistakes are noticed.

`python -m tests.interop.peers write`, where torch is, makes what is compared with.
"""

import pytest

from tests.interop import cases, run

ALL = cases.everything()
WRONG = cases.marked(lambda case: case.wrong)


@pytest.mark.parametrize("name", cases.marked())
def test_outputs_are_the_reference(name, tmp_path):
  family, case = ALL[name]
  made = run.outputs(family, case, run.write_release(case, tmp_path))
  for what, value in run.errors(case, made).items():
    assert value <= case.bounds.get(what, case.bound), what


@pytest.mark.parametrize(("name", "wrong"), WRONG)
def test_a_mistake_is_noticed(name, wrong, tmp_path):
  family, case = ALL[name]
  mistake = case.wrong[wrong]
  made = run.outputs(family, case, run.write_release(case, tmp_path, mistake), mistake)
  assert max(run.errors(case, made).values()) > cases.CONTROL * case.bound


def test_every_released_system_has_a_case():
  from unijax.interop import system

  assert {case.system for _, case in ALL.values()} == set(system.names())
