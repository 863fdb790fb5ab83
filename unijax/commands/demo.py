"""`unijax demo`: the main job end to end, and its report."""

import json
import pathlib
import time

from unijax import config as config_lib
from unijax import config_file
from unijax.commands import train
from unijax.evals import page, sheet, suite
from unijax.infer.load import load_run
from unijax.report import score_table

PRESETS = {
  False: ("configs/transfusion.py:tiny", "runs/demo"),
  True: ("configs/transfusion.py:tiny-long", "runs/demo-long"),
}
BARS = {
  False: {("iid", "draw"): 0.85, ("iid", "describe"): 0.95, ("iid", "ask"): 0.90},
  True: {("iid", "draw"): 0.90, ("combo", "draw"): 0.75},
}


def run(args) -> dict:
  """Trains or resumes, evaluates, writes report.html; a finished demo reprints."""
  preset, default = PRESETS[args.long]
  workdir = pathlib.Path(args.workdir or default)
  config = config_file.load([f"--config={preset}"])
  finished = _finished(workdir, config)
  if finished is not None:
    print(finished["table"])
    print(f"report: {finished['result']['report']}  (already done; remove {workdir} "
          "to run again)")  # fmt: skip
    return finished["result"]
  began = time.monotonic()
  trained = train.run(config, str(workdir))
  loaded = load_run(workdir)
  evaluation = suite.evaluate(loaded)
  path = page.write(
    workdir / "report.html", workdir, loaded, evaluation, bars=BARS[args.long],
    title="unijax demo" + (", long" if args.long else ""),
    lead="One decoder, trained from nothing on embedded data: it draws from captions, "
    "describes, answers questions and edits, and every score is exact.",
  )  # fmt: skip
  sheet.contact_sheet(evaluation).save(workdir / "demo.png")
  table = score_table(page.headline(evaluation, BARS[args.long]))
  result = {
    "verb": "demo",
    "generation_exact": evaluation.exact("iid", "draw")[0],
    "caption_exact": evaluation.exact("iid", "describe")[0],
    "question_accuracy": evaluation.exact("iid", "ask")[0],
    "edit_exact": evaluation.exact("iid", "edit")[0],
    "seconds": round(time.monotonic() - began, 1),
    "train_seconds": trained["seconds"],
    "report": str(path.absolute()),
    "evaluation": evaluation.summary(),
  }
  (workdir / "demo.json").write_text(
    json.dumps({"config": config_lib.to_dict(config), "table": table, "result": result},
               indent=1) + "\n"
  )  # fmt: skip
  print(f"\n{table}\n\nreport: {result['report']}")
  return result


def _finished(workdir: pathlib.Path, config) -> dict | None:
  """What an earlier demo of the same config found, if its report is still there."""
  path = workdir / "demo.json"
  if not path.is_file():
    return None
  content = json.loads(path.read_text())
  same = content["config"] == json.loads(json.dumps(config_lib.to_dict(config)))
  return (
    content if same and pathlib.Path(content["result"]["report"]).is_file() else None
  )
