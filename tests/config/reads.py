"""Which knobs code reads."""

import ast

from unijax.config import SECTIONS


class Reads(ast.NodeVisitor):
  """Collects (section, knob) pairs that code reads.

  Follows `anything.section.knob`, names assigned from `anything.section`, arguments and
  class attributes annotated with a section's class. A read that it cannot follow, such
  as getattr, does not count.
  """

  CLASSES = {cls.__name__: section for section, cls in SECTIONS.items()}
  SHARED = {"TowerConfig": ("vision", "text")}  # what is read of it is read of both
  CLASSES |= {name: name for name in SHARED}

  def __init__(self):
    self.found: set[tuple[str, str]] = set()
    self.names: list[dict[str, str]] = [{}]  # of each open scope
    self.attributes: dict[str, str] = {}  # self.NAME of the open class
    self.classes: dict[str, dict[str, str]] = {}  # of those that were seen

  def section(self, node) -> str | None:
    """The section that an expression is, if any."""
    if isinstance(node, ast.Name):
      return next((s[node.id] for s in reversed(self.names) if node.id in s), None)
    if isinstance(node, ast.Attribute):
      if isinstance(node.value, ast.Name) and node.value.id == "self":
        if node.attr in self.attributes:
          return self.attributes[node.attr]
      return node.attr if node.attr in SECTIONS else None
    return None

  def visit_ClassDef(self, node):
    before, self.attributes = self.attributes, {}
    for parent in node.bases:  # of the same file, which come before
      if isinstance(parent, ast.Name):
        self.attributes |= self.classes.get(parent.id, {})
    for item in node.body:
      if isinstance(item, ast.AnnAssign) and isinstance(item.annotation, ast.Name):
        if item.annotation.id in self.CLASSES:
          self.attributes[item.target.id] = self.CLASSES[item.annotation.id]
    self.generic_visit(node)
    self.classes[node.name] = self.attributes
    self.attributes = before

  def visit_FunctionDef(self, node):
    arguments = [*node.args.args, *node.args.kwonlyargs]
    self.names.append(
      {
        a.arg: self.CLASSES[a.annotation.id]
        for a in arguments
        if isinstance(a.annotation, ast.Name) and a.annotation.id in self.CLASSES
      }
    )
    self.generic_visit(node)
    self.names.pop()

  def visit_Assign(self, node):
    target, value = node.targets[0], node.value
    pairs = [(target, value)]
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
      pairs = list(zip(target.elts, value.elts, strict=False))
    for to, of in pairs:
      if isinstance(to, ast.Name) and self.section(of):
        self.names[-1][to.id] = self.section(of)
    self.generic_visit(node)

  def visit_Attribute(self, node):
    section = self.section(node.value)
    for one in self.SHARED.get(section, [section] if section else []):
      self.found.add((one, node.attr))
    if node.attr == "seed" and ast.unparse(node.value).split(".")[-1] == "config":
      self.found.add(("", "seed"))
    self.generic_visit(node)


def reads_of(text: str) -> set[tuple[str, str]]:
  reads = Reads()
  reads.visit(ast.parse(text))
  return reads.found
