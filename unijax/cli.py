"""The `unijax` command. Every verb ends with one line `RESULT {json}` on stdout.

Exit codes: 0 done; 1 a failure inside unijax; 2 bad input or a diverged run, said in
one message: a person is needed; 3 no checkpoint of the run is whole, or `ckpt verify`
found damage; 4 a planned config does not fit its topology. Training, and a comparison
that trains, also end with 75 after SIGTERM and saving, the same command goes on; 76
after a hang, where guard.hang_exit is set, the same command goes on; 130 after Ctrl-C
and saving. A sweep ends with 75 after either signal, once its trials have saved.
"""

import json
import pathlib
import sys
import traceback

from unijax.commands.parsers import make_parser


def main(argv: list[str] | None = None) -> None:
  """Runs one verb and exits."""
  parser = make_parser()
  args, rest = parser.parse_known_args(argv)
  overrides, unknown = _config_arguments(rest)
  if unknown:
    parser.error(f"unexpected argument {unknown[0]!r}; see `unijax {args.verb} --help`")
  try:
    result = RUN[args.verb](args, overrides)
  except KeyboardInterrupt:
    sys.exit(130)
  except Exception as error:
    sys.exit(_report_error(error))
  print("RESULT " + json.dumps(result), flush=True)
  if result.get("fits") is False:
    sys.exit(4)


def _train(args, overrides) -> dict:
  from unijax import config_file
  from unijax.checkpoint.start import Start
  from unijax.commands import train
  from unijax.scale import processes
  from unijax.train import skips
  from unijax.train.events import process_began

  began = process_began()
  _cache_compilations()
  processes.join(args.processes)
  allow = [word for word in args.init_allow.split(",") if word]
  begin = Start(args.resume, args.resume_from, args.init_from, allow)
  config, wish = config_file.load(overrides), skips.parse(args.rewind, args.skip_steps)
  return train.run(config, args.workdir, begin, wish, began)


def _sample(args, overrides) -> dict:
  from unijax.commands import sample

  _no_config(overrides)
  _cache_compilations()
  return sample.run(args)


def _eval(args, overrides) -> dict:
  from unijax.commands import evaluate

  _no_config(overrides)
  _cache_compilations()
  return evaluate.run(args)


def _data(args, overrides) -> dict:
  from unijax import config_file
  from unijax.data import commands

  return commands.run(args, config_file.load(overrides) if overrides else None)


def _goodput(args, overrides) -> dict:
  from unijax.commands import goodput

  _no_config(overrides)
  return goodput.run(args)


def _ckpt(args, overrides) -> dict:
  from unijax.commands import ckpt

  _no_config(overrides)
  return ckpt.run(args)


def _demo(args, overrides) -> dict:
  from unijax.commands import demo

  _no_config(overrides)
  _cache_compilations()
  return demo.run(args)


def _mesh(args, overrides) -> dict:
  from unijax import config_file
  from unijax.commands import mesh

  return mesh.run(config_file.load(overrides), args.devices, args.slices)


def _systems(args, overrides) -> dict:
  from unijax.commands import systems

  _no_config(overrides)
  return systems.run(args)


def _compare(args, overrides) -> dict:
  from unijax.commands import compare

  _cache_compilations()
  return compare.run(args, overrides)


def _sweep(args, overrides) -> dict:
  from unijax.commands import sweep

  if args.action == "trial":
    _cache_compilations()
  return sweep.run(args, overrides)


def _import(args, overrides) -> dict:
  from unijax.commands import interop

  _no_config(overrides)
  return interop.run_import(args)


def _export(args, overrides) -> dict:
  from unijax.commands import interop

  _no_config(overrides)
  return interop.run_export(args)


def _plan(args, overrides) -> dict:
  from unijax.commands import plan

  return plan.run(args, overrides)


RUN = {
  "train": _train, "sample": _sample, "eval": _eval, "data": _data, "ckpt": _ckpt,
  "goodput": _goodput, "mesh": _mesh, "plan": _plan, "demo": _demo,
  "systems": _systems, "compare": _compare, "import": _import, "export": _export,
  "sweep": _sweep,
}  # fmt: skip


def _cache_compilations() -> None:
  """Keeps compiled functions on disk, so that the next start of a verb is quick.

  Where JAX_COMPILATION_CACHE_DIR or the program has chosen a place, it stays.
  """
  import jax

  if jax.config.jax_compilation_cache_dir is None:
    path = pathlib.Path.home() / ".cache" / "unijax" / "xla"
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def _config_arguments(rest: list[str]) -> tuple[list[str], list[str]]:
  """Separates `--config... [value]` from arguments that nobody knows."""
  config, unknown = [], []
  takes_value = False
  for argument in rest:
    if argument == "--config" or argument.startswith(("--config.", "--config=")):
      config.append(argument)
      takes_value = "=" not in argument
    elif takes_value:
      config.append(argument)
      takes_value = False
    else:
      unknown.append(argument)
  return config, unknown


def _no_config(overrides: list[str]) -> None:
  if overrides:
    from unijax.config import ConfigError

    raise ConfigError(f"{overrides[0]}: this verb takes the config of the run itself")


def _report_error(error: Exception) -> int:
  """Prints one message for bad input, a traceback for the rest; the exit code."""
  from unijax.checkpoint.errors import CheckpointError
  from unijax.config import ConfigError
  from unijax.data.document import DataError
  from unijax.train.interrupt import Interrupted

  if isinstance(error, Interrupted):
    print(error, file=sys.stderr)
    return error.code
  if isinstance(error, ConfigError | DataError | CheckpointError | FloatingPointError):
    print(f"unijax: {error}", file=sys.stderr)
    return getattr(error, "exit_code", 2)
  if isinstance(error, OSError):
    print(f"unijax: {error}", file=sys.stderr)
    return 1
  log = pathlib.Path("unijax-error.txt")
  log.write_text(traceback.format_exc())
  print(
    f"unijax: {type(error).__name__}: {error}\n(traceback in {log})", file=sys.stderr
  )
  return 1
