"""An HTML page in one file: text, tables and figures, escaped, with nothing fetched from elsewhere.

A page is a tree of elements, so that its tags balance and what stands in them is escaped.
"""

import base64
import numbers
import os
import pathlib
from xml.etree import ElementTree

MIME_TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".gif": "image/gif"}
STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #fff; color: #1d2125;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
main { max-width: 46rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: .75rem;
  border-top: 1px solid #d9dde1; }
p { margin: .5rem 0; overflow-wrap: anywhere; }
p.note { padding: .5rem .75rem; border-left: 4px solid #c2410c; background: #fff7ed; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: #565d64; padding-bottom: .35rem; }
th, td { padding: .3rem .75rem .3rem 0; text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid #1d2125; }
tbody th { font-weight: normal; }
tbody tr { border-bottom: 1px solid #e6e9ec; }
td { white-space: pre; }
tbody th { min-width: 6.5rem; }
table.long td { white-space: pre-wrap; overflow-wrap: anywhere; }
figure { margin: 1rem 0 1.5rem; }
figure img { display: block; width: 100%; height: auto; }
figcaption { font-size: .85rem; color: #565d64; }
pre { overflow-x: auto; font-size: .8rem; background: #f5f6f7; padding: .75rem; }
"""


class Page:
    """An HTML page that is written from top to bottom.

        page = Page("Run mine")
        page.section("Scores")
        page.table([{"model": "hold", "RMSE": 0.25}], "Errors of the free run.")
        page.figure("loss.png", "The loss falls for 100 epochs.", "Loss, nats a time step.")
        page.write("report.html")

    Args:
      title: Title and first heading.
    """

    def __init__(self, title):
        self._root = ElementTree.Element("html", lang="en")
        head = _add(self._root, "head")
        _add(head, "meta", charset="utf-8")
        _add(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
        _add(head, "title", title)
        _add(head, "style", STYLE)
        self._main = _add(_add(self._root, "body"), "main")
        _add(self._main, "h1", title)

    def section(self, title):
        """Begins a section."""
        _add(self._main, "h2", title)

    def paragraph(self, text):
        """Adds a paragraph."""
        _add(self._main, "p", text)

    def note(self, text):
        """Adds a paragraph that must not be overlooked."""
        _add(self._main, "p", text, "note")

    def table(self, rows, caption, long=False):
        """Adds a table.

        Args:
          rows: Dictionaries of heads and values, the first of which names the row. A column that
            is empty everywhere is left out.
          caption: What the table shows.
          long: Whether the values are long texts, to be broken into lines.
        """
        heads = dict.fromkeys(
            head for row in rows for head, value in row.items() if value not in ("", None)
        )
        scroll = _add(self._main, "div", kind="scroll")
        table = _add(scroll, "table", kind="long" if long else None)
        _add(table, "caption", caption)
        line = _add(_add(table, "thead"), "tr")
        for head in heads:
            _add(line, "th", head, scope="col")
        body = _add(table, "tbody")
        for row in rows:
            line, (first, *others) = _add(body, "tr"), heads
            _add(line, "th", shown(row.get(first)), scope="row")
            for head in others:
                _add(line, "td", shown(row.get(head)))

    def figure(self, path, alt, caption):
        """Adds a picture, whose file the page holds.

        Args:
          path: File of the picture: .svg, .png or .gif.
          alt: What it shows, for those who cannot see it.
          caption: Text below it.
        """
        path = pathlib.Path(path)
        content = base64.b64encode(path.read_bytes()).decode("ascii")
        figure = _add(self._main, "figure")
        _add(figure, "img", src=f"data:{MIME_TYPES[path.suffix]};base64,{content}", alt=alt)
        _add(figure, "figcaption", caption)

    def link(self, target, text):
        """Adds a line that links to another file, `target` being relative to the page."""
        _add(_add(self._main, "p"), "a", text, href=target)

    def details(self, summary, text):
        """Adds a text as it is, shown when it is asked for."""
        details = _add(self._main, "details")
        _add(details, "summary", summary)
        _add(details, "pre", text)

    def to_html(self):
        """Returns the page as text."""
        ElementTree.indent(self._main, level=2)
        return "<!DOCTYPE html>\n" + ElementTree.tostring(self._root, "unicode", method="html")

    def write(self, path):
        """Writes the page to the file `path`, whole or not at all."""
        partial = pathlib.Path(f"{path}.partial")
        partial.write_text(self.to_html(), encoding="utf-8")
        os.replace(partial, path)


def shown(value):
    """Returns a value as text: floats by four significant digits, lists by commas."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, numbers.Integral):
        return str(value)
    if isinstance(value, numbers.Real):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value))
    return str(value)


def _add(parent, tag, text=None, kind=None, **attributes):
    """Adds an element, whose class is `kind`, and returns it."""
    element = ElementTree.SubElement(parent, tag, attributes)
    element.text = text
    if kind is not None:
        element.set("class", kind)
    return element
