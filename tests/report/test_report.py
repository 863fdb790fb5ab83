"""A report is one file: it shows what it was given, refers to and runs nothing."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from unijax import report
from unijax.report import charts, markup

NAN = float("nan")
ATTACK = "<script>alert('x')</script>\"' onerror=\"y\x00\ud800"


def pixels(height=8, width=8, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


class Page(HTMLParser):
  """Collects elements and text; holds that every element is closed in order."""

  VOID = {"img", "meta"}

  def __init__(self, text):
    super().__init__()
    self.elements, self.words, self.open = [], [], []
    self.feed(text)
    self.close()
    assert not self.open, f"not closed: {self.open}"

  def handle_starttag(self, tag, attrs):
    self.elements.append((tag, dict(attrs)))
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open and self.open.pop() == tag, f"</{tag}> closes another element"

  def handle_data(self, data):
    self.words.append(data)

  def all(self, tag):
    return [attributes for name, attributes in self.elements if name == tag]


def awkward_blocks(words):
  """Every block, with empty, missing and hostile input."""
  gap = report.Series(words, [0, 1, 2, 3], [NAN, 1.0, float("inf"), -1.0])
  return [
    report.text(words, ""),
    report.tiles([]),
    report.tiles([(words, NAN, words), ("a", words, "")]),
    report.key_values({}),
    report.key_values({words: words, "b": None, "c": True}, words),
    report.table([], []),
    report.table([words], [[words], [NAN], [None]]),
    report.details(words),
    report.config({}),
    report.config({words: {"x": {}, words: ATTACK}}),
    report.scores([]),
    report.scores([report.Score(words, NAN, NAN, NAN, NAN, baselines={words: NAN})]),
    report.scores([report.Score(words, 3.0, baselines={words: 1.0}, note=words)]),
    report.scores([report.Score(words, -3.0, bar=float("inf"), percent=True)]),
    report.line_chart(words, []),
    report.line_chart(words, [report.Series(words, [], [])], log_x=True, log_y=True),
    report.line_chart(words, [gap], x_label=words, y_label=words, bar=NAN),
    report.line_chart(words, [gap, gap], log_x=True, log_y=True, bar=0.0, ordered=True),
    report.line_chart(words, [report.Series("flat", [5], [0.0])]),
    report.image_grid([]),
    report.image_grid([report.Picture(None, words, False, words)]),
    report.image_grid([report.Picture(pixels(), words), report.Picture(pixels()[0])]),
    report.picture_table([], [], []),
    report.picture_table([words], [words], [[None]], corner=words),
    report.questions([]),
    report.questions([report.Answer(pixels(), words, words, words, False)]),
    report.edits([]),
    report.edits([report.Edit(pixels(), words, None, True, words)]),
    report.columns(),
  ]


def awkward_content(words=ATTACK):
  return report.ReportContent(
    words,
    [report.Section(words, awkward_blocks(words), words), report.Section("", [])],
    words,
    [report.text(words)],
  )


def test_one_file_that_refers_to_nothing(tmp_path):
  path = report.build_report(tmp_path / "new" / "report.html", awkward_content())
  assert [p.name for p in path.parent.iterdir()] == ["report.html"]
  text = path.read_text(encoding="utf-8")
  page = Page(text)
  ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
  for tag, attributes in page.elements:
    assert tag not in {"script", "link", "iframe", "object", "embed", "form", "base"}
    for name, value in attributes.items():
      assert not name.startswith("on"), f"{name} would run a script"
      if name in {"src", "href", "xlink:href", "action", "srcset", "poster", "data"}:
        assert value.startswith("data:image/png;base64,") or value[1:] in ids, value
      assert "url(" not in value
  style = text[text.index("<style>") : text.index("</style>")]
  assert "url(" not in style and "@import" not in style and "//" not in style


def test_hostile_words_are_shown_as_words():
  text = report.render(awkward_content())
  assert "<script" not in text
  page = Page(text)
  shown = ATTACK.replace("\x00", "\ufffd").replace("\ud800", "\ufffd")
  assert page.words.count(shown) >= 20
  assert all(a["alt"] for a in page.all("img"))
  text.encode("utf-8")


def test_pictures_are_inside_and_unchanged():
  image = pixels(5, 7)
  page = Page(report.image_grid([report.Picture(image, "seven wide", True)]))
  (attributes,) = page.all("img")
  data = base64.b64decode(attributes["src"].removeprefix("data:image/png;base64,"))
  np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), image)
  assert attributes["alt"] == "seven wide (judged right)"


@pytest.mark.parametrize(
  "image", [np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros(3, np.uint8)]
)
def test_says_which_picture_is_wrong(image):
  with pytest.raises(ValueError, match="a cat.*must be uint8"):
    report.image_grid([report.Picture(image, "a cat")])


def test_says_which_sizes_differ():
  with pytest.raises(ValueError, match="2 rows of 1 pictures, got rows of \\[1, 2\\]"):
    report.picture_table(["a", "b"], ["0"], [[None], [None, None]])
  with pytest.raises(ValueError, match="'loss' has 2 x and 1 y"):
    report.line_chart("t", [report.Series("loss", [1, 2], [1])])


def paths(chart, kind):
  return [a["d"] for a in Page(chart).all("path") if a["class"] == kind]


def test_a_line_goes_where_its_numbers_are():
  chart = report.line_chart("t", [report.Series("a", [0, 5, 10], [2.0, 4.0, 3.0])])
  (d,) = paths(chart, "line")
  points = np.array([list(map(float, p.split())) for p in re.split("[ML]", d)[1:]])
  assert points[1:, 0].tolist() == sorted(points[1:, 0])
  assert points[2, 0] == pytest.approx((points[1, 0] + points[3, 0]) / 2, abs=0.1)
  rises = points[1, 1] - points[2:, 1]  # down is positive in SVG
  assert rises[0] == pytest.approx(2 * rises[1], abs=0.2) and rises[0] > 0


def test_a_log_axis_is_a_log_axis():
  chart = report.line_chart(
    "t", [report.Series("a", [1, 10, 100], [1.0, 10.0, 100.0])], log_x=True, log_y=True
  )
  (d,) = paths(chart, "line")
  points = np.array([list(map(float, p.split())) for p in re.split("[ML]", d)[2:]])
  np.testing.assert_allclose(points[1] * 2, points[0] + points[2], atol=0.2)
  ticks = [word for word in Page(chart).words if word in ("1", "10", "100")]
  assert ticks == ["1", "10", "100"] * 2 + ["100"]  # y, x, and the last value


def test_gaps_stay_gaps_and_spikes_stay():
  x = np.arange(5000.0)
  y = np.ones(5000)
  y[1234], y[3000:3100] = 9.0, NAN
  chart = report.line_chart("t", [report.Series("a", x, y)])
  (raw,) = paths(chart, "raw")
  assert raw.count("M") == 2
  heights = [float(point.split()[1]) for point in re.split("[ML]", raw)[1:]]
  assert sum(h < 100 for h in heights) == 1  # the spike, near the top of 300
  assert len(heights) <= 510
  mean = charts._running_mean(np.array([1.0, NAN, 3.0, 5.0]), 2)
  np.testing.assert_array_equal(mean, [1.0, NAN, 3.0, 4.0])


def test_scores_know_when_the_bar_is_reached():
  high = report.Score("a", 0.8, bar=0.8)
  assert high.passed is True
  assert report.Score("a", 0.8, bar=0.7, higher_is_better=False).passed is False
  assert report.Score("a", NAN, bar=0.8).passed is False
  assert report.Score("a", NAN, bar=0.8, higher_is_better=False).passed is False
  assert report.Score("a", 0.8).passed is None


def test_score_table_lines_up():
  table = report.score_table(
    [
      report.Score("drawing", 0.874, 0.842, 0.9, bar=0.8, percent=True, count=1512),
      report.Score("kid_lite", 0.021, bar=0.01, higher_is_better=False),
      report.Score("a\nb", NAN, baselines={"chance": 0.25}),
    ]
  )
  head, rule, *rows = table.splitlines()
  assert len(rows) == 3 and set(rule) <= {"─", " "}
  assert "87.4 %  84.2 – 90.0 %  ≥ 80.0 %  1,512" in rows[0] and rows[0][0] == "✓"
  assert rows[1].startswith("✗  kid_lite") and "≤ 0.0100" in rows[1]
  assert rows[2].startswith("   a b") and rows[2].endswith("chance 0.250")
  end = head.index("value") + len("value")
  assert rows[0][:end].endswith("87.4 %") and rows[2][:end].endswith("n/a")
  assert report.score_table([]) == "no scores"


def test_numbers_for_people():
  shown = {
    0: "0",
    1234567: "1,234,567",
    12.34: "12.3",
    0.02101: "0.0210",
    9.996: "10.00",
    -0.5: "−0.500",
    1e-5: "1.00e-05",
    123456.7: "123,457",
    NAN: "n/a",
    float("inf"): "∞",
  }
  assert {value: markup.number(value) for value in shown} == shown
  assert markup.number(0.1234, percent=True) == "12.3\u00a0%"
