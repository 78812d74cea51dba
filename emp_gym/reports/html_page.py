"""A report as one HTML file that needs nothing else: pictures inside, no script, readable on a phone, in the dark, on paper."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from emp_gym.reports.blocks import Block, FactList, Heading, Picture, Table, Text

STYLE = """\
:root{color-scheme:light dark;--ink:#1f2933;--muted:#5b6773;--line:#dde2e7;--paper:#fff;--strong:#eaf3fa}
@media(prefers-color-scheme:dark){:root{--ink:#e6eaee;--muted:#9aa5b1;--line:#38424d;--paper:#14181d;--strong:#16314a}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.2rem;max-width:62rem;color:var(--ink);background:var(--paper);
font:1rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.5rem;line-height:1.25;margin:.3rem 0 .8rem}
h2{font-size:1.15rem;margin:2.2rem 0 .6rem;padding-bottom:.2rem;border-bottom:1px solid var(--line)}
p{max-width:46rem}li{overflow-wrap:anywhere}h1+p{font-size:1.08rem}
code{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:.9em;overflow-wrap:anywhere}
.wide{overflow-x:auto;margin:1rem 0}
table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums}
th,td{padding:.32rem .7rem;text-align:right;border-bottom:1px solid var(--line)}
th{color:var(--muted);font-weight:600;vertical-align:bottom}
.n{white-space:nowrap}
th:first-child,td:first-child,.t{text-align:left}td.t:last-child{min-width:14rem}
th:first-child,td:first-child{position:sticky;left:0;background:var(--paper);max-width:16rem}
tr.strong td{font-weight:600;background:var(--strong)}
figure{margin:1.2rem 0}
img{display:block;width:100%;min-width:40rem;height:auto;padding:.5rem;background:#fff;border-radius:6px}
figcaption{color:var(--muted);font-size:.86rem;margin-top:.3rem}
@media(prefers-color-scheme:dark){img{filter:brightness(.88)}}
@media(max-width:42rem){body{padding:.8rem}th,td{padding:.32rem .5rem}td:first-child{max-width:8rem}
figcaption::after{content:" (scrolls sideways)"}}
@media print{body{max-width:none}.wide{overflow:visible}h2,figure{break-after:avoid;break-inside:avoid}img{min-width:0}}
"""


def html(blocks: Sequence[Block], folder: Path, title: str) -> str:
    """The page; pictures are read from `folder`."""
    body = "\n".join(_block(block, folder) for block in blocks)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width,initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _block(block: Block, folder: Path) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{inline(text)}</h{level}>"
        case Text(body):
            return f"<p>{inline(body)}</p>"
        case FactList(lines):
            return "<ul>\n" + "\n".join(f"<li>{inline(line)}</li>" for line in lines) + "\n</ul>"
        case Table():
            return _table(block)
        case Picture(title, file):
            data = base64.b64encode((folder / file).read_bytes()).decode("ascii")
            alt = escape(title, quote=True)
            return (
                f'<figure><div class="wide"><img alt="{alt}" src="data:image/png;base64,{data}"></div>'
                f"<figcaption>{inline(title)}</figcaption></figure>"
            )


def _table(table: Table) -> str:
    def row(tag: str, cells: Sequence[str]) -> str:
        looks = [' class="t"' if at in table.texts else "" for at in range(len(cells))]
        return "".join(f"<{tag}{look}>{inline(cell)}</{tag}>" for look, cell in zip(looks, cells))

    looks = [' class="strong"' if at == table.strong else "" for at in range(len(table.rows))]
    body = "\n".join(f"<tr{look}>{row('td', cells)}</tr>" for look, cells in zip(looks, table.rows))
    head = f"<thead><tr>{row('th', table.titles)}</tr></thead>"
    return f'<div class="wide"><table>\n{head}\n<tbody>\n{body}\n</tbody>\n</table></div>'


def inline(text: str) -> str:
    """**bold** and `code`; everything else is shown as it is. An interval may go below its mean, but is not broken itself."""
    safe = escape(text)
    safe = re.sub(r"\[[−\d.,]+, [−\d.,]+\]|&lt; [\d.]+", r'<span class="n">\g<0></span>', safe)
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", safe)
