"""A page in one file: text, tables and figures, readable offline and on paper."""

import base64
import os
import pathlib
from html import escape

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #ddd; }
p { max-width: 44rem; }
figure { margin: 1rem 0; overflow-x: auto; }
figure img { max-width: 100%; min-width: 30rem; height: auto; }
figcaption { color: #555; font-size: .9rem; max-width: 44rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .5rem; text-align: right; white-space: nowrap;
         border-bottom: 1px solid #eee; }
th { color: #555; font-weight: 600; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
p.note { padding: .4rem .8rem; border-left: 4px solid #c2410c; background: #fff7ed; }
table.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
table.facts td:first-child { color: #555; white-space: nowrap; vertical-align: top; }
@media print { table { font-size: .6rem; } th, td { padding: .15rem .3rem; } }
"""


class Page:
    """A page that is written from top to bottom, as XHTML in which all text is escaped.

    Args:
      title: What stands at its top.
    """

    def __init__(self, title):
        self.title = title
        self.parts = [f"<h1>{escape(title)}</h1>"]

    def section(self, title):
        """Starts a section."""
        self.parts.append(f"<h2>{escape(title)}</h2>")

    def paragraph(self, text):
        """Writes a paragraph."""
        self.parts.append(f"<p>{escape(text)}</p>")

    def note(self, text):
        """Writes a paragraph that is not to be overlooked."""
        self.parts.append(f'<p class="note">{escape(text)}</p>')

    def facts(self, facts):
        """Writes names and what they are, a dictionary, as a list of two columns."""
        rows = [[name, value] for name, value in facts.items()]
        self.parts.append(f'<table class="facts">{_rows(rows, "td")}</table>')

    def table(self, rows):
        """Writes a list of dictionaries as a table; the keys are the heads of its columns."""
        heads = list(dict.fromkeys(head for row in rows for head in row))
        cells = [[row.get(head, "") for head in heads] for row in rows]
        body = f"<thead>{_rows([heads], 'th')}</thead><tbody>{_rows(cells, 'td')}</tbody>"
        self.parts.append(f'<div class="wide"><table>{body}</table></div>')

    def figure(self, path, caption):
        """Writes the picture of a PNG file into the page, with a line that says what it shows."""
        data = base64.b64encode(pathlib.Path(path).read_bytes()).decode()
        caption = escape(caption)
        self.parts.append(
            f'<figure><img src="data:image/png;base64,{data}" alt="{caption}" />'
            f"<figcaption>{caption}</figcaption></figure>"
        )

    def render(self):
        """Returns the page."""
        head = (
            '<meta charset="utf-8" />'
            '<meta name="viewport" content="width=device-width, initial-scale=1" />'
            f"<title>{escape(self.title)}</title><style>{STYLE}</style>"
        )
        body = "\n".join(self.parts)
        return (
            '<!DOCTYPE html>\n<html xmlns="http://www.w3.org/1999/xhtml" lang="en">\n'
            f"<head>{head}</head>\n<body>\n{body}\n</body>\n</html>\n"
        )

    def write(self, path):
        """Writes the page to a file, whole or not at all."""
        partial = pathlib.Path(f"{path}.partial")
        partial.write_text(self.render(), encoding="utf-8")
        os.replace(partial, path)


def _rows(rows, kind):
    """Returns rows of cells as `tr` elements."""
    return "".join(
        f"<tr>{''.join(f'<{kind}>{escape(str(cell))}</{kind}>' for cell in row)}</tr>"
        for row in rows
    )
