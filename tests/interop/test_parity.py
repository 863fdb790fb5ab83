"""Imported weights compute what the reference computed, and mistakes are noticed.

`python -m tests.interop.peers write`, where torch is, makes what is compared with.
"""

import pathlib

import pytest

from tests.interop import cases, run, table

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
  assert run.moved(name, wrong, tmp_path) > cases.CONTROL * ALL[name][1].bound


def test_every_released_system_has_a_case():
  from unijax.interop import system

  assert {case.system for _, case in ALL.values()} == set(system.names())


def test_the_page_has_a_row_a_case():
  page = pathlib.Path("configs/released/README.md").read_text()
  rows = page.partition(table.BEGIN)[2].partition(table.END)[0].splitlines()[3:]
  assert [row.split(" | ")[1] for row in rows] == list(ALL), "make parity"
