"""Laws of stopping: SIGTERM saves and leaves with 75; processes agree on the step."""

import signal
import socket

import jax
import pytest

from tests.train.test_resume import config_file, start, wait_for
from unijax.checkpoint.store import Store
from unijax.train.interrupt import Interrupted, Interruptions, Preempted
from unijax.train.metrics import read_metrics

AGREE = """
import sys, time
import jax
address, number, folder = sys.argv[1:]
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(address, 2, int(number))
from unijax.train.interrupt import Interruptions
with Interruptions() as interruptions:
  for step in range(100_000):
    if interruptions.reached(step):
      break
    if step == 20:
      open(f"{folder}/{number}", "w").close()
    time.sleep(0.01 * (1 + 2 * int(number)))  # they are never at the same step
print("stopped at", step, type(interruptions.error("")).__name__, flush=True)
jax.distributed.shutdown()
"""


def test_sigterm_saves_and_asks_to_be_started_again(tmp_path):
  workdir = tmp_path / "run"
  file = config_file(tmp_path, train={"steps": 100_000})
  process = start("-m", "unijax", "train", f"--config={file}", f"--workdir={workdir}")
  wait_for(process, lambda: len(read_metrics(workdir)) > 2)
  process.send_signal(signal.SIGTERM)
  out, err = process.communicate(timeout=60)
  assert process.returncode == 75, err
  store = Store(workdir, read_only=True)
  step = store.steps()[-1]
  store.close()
  assert f"stopped at step {step} of 100000" in err and "RESULT" not in out
  assert len(read_metrics(workdir)) == step  # a line for every step done


@pytest.mark.parametrize("by_hand", [False, True])
def test_two_processes_agree_on_a_step(tmp_path, by_hand):
  """One of two gets the signal; the slower one has not passed the step they stop at."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    address = f"127.0.0.1:{free.getsockname()[1]}"
  both = [start("-c", AGREE, address, n, tmp_path) for n in range(2)]
  for number, process in enumerate(both):
    wait_for(process, (tmp_path / str(number)).exists)
  both[1].send_signal(signal.SIGINT if by_hand else signal.SIGTERM)
  said = [p.communicate(timeout=120) for p in both]
  assert [p.returncode for p in both] == [0, 0], said
  lines = [out.splitlines()[-1].split() for out, _ in said]
  assert lines[0][2] == lines[1][2] and int(lines[0][2]) > 20
  assert [x[3] for x in lines] == [
    "Preempted",
    "Interrupted" if by_hand else "Preempted",
  ]


def test_handlers_are_put_back_and_the_second_ctrl_c_is_at_once():
  before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
  assert jax.process_count() == 1
  with Interruptions() as interruptions:
    assert not interruptions.reached(0)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert interruptions.reached(1)
    assert type(interruptions.error("x")) is Preempted
  with Interruptions() as interruptions:
    signal.raise_signal(signal.SIGINT)
    assert interruptions.reached(0) and type(interruptions.error("x")) is Interrupted
    with pytest.raises(KeyboardInterrupt):
      signal.raise_signal(signal.SIGINT)
  assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
