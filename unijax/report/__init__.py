"""Reports: one HTML page, and a score table for the terminal.

Knows numbers, words and pictures; nothing of models or data. A page is a
`ReportContent` of `Section`s, each a list of blocks:

  build_report("report.html", ReportContent("Demo", [
    Section("Scores", [scores([Score("drawing", 0.91, 0.88, 0.94, bar=0.8)])]),
    Section("Drawings", [image_grid([Picture(pixels, "a red circle", passed=True)])]),
  ]))
"""

from unijax.report.blocks import config, details, key_values, table, text, tiles
from unijax.report.charts import Series, columns, line_chart
from unijax.report.markup import Html
from unijax.report.page import ReportContent, Section, build_report, render
from unijax.report.pictures import (
  Answer,
  Edit,
  Picture,
  edits,
  image_grid,
  picture_table,
  questions,
)
from unijax.report.plain import markdown_table, plain_table
from unijax.report.scores import Score, score_table, scores

__all__ = [
  "Answer",
  "Edit",
  "Html",
  "Picture",
  "ReportContent",
  "Score",
  "Section",
  "Series",
  "build_report",
  "columns",
  "config",
  "details",
  "edits",
  "image_grid",
  "key_values",
  "line_chart",
  "picture_table",
  "markdown_table",
  "plain_table",
  "questions",
  "render",
  "score_table",
  "scores",
  "table",
  "text",
  "tiles",
]
