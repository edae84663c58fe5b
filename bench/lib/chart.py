# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The picture: one SVG bar chart of wall times, each contest on a scale of its own. Pure."""
from xml.sax.saxutils import escape

import statistics_of as stats

WIDTH, LABELS, BAR, GAP, HEAD = 960, 400, 18, 6, 34
OURS, THEIRS, INK = "#1b6ca8", "#b8bec6", "#222"


def text(x, y, words, size=12, anchor="start", weight="normal"):
    return (f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
            f'fill="{INK}">{escape(words)}</text>')


def bar(y, name, median, spread, scale):
    """A name, its median as a bar, a line from its fastest to its slowest run."""
    room = WIDTH - LABELS - 80
    length, low, high = (LABELS + room * value / scale for value in (median, *spread))
    middle = y + BAR / 2
    colour = OURS if name.startswith("nasbackup") else THEIRS
    return "".join([
        text(LABELS - 8, y + BAR - 5, name, anchor="end"),
        f'<rect x="{LABELS}" y="{y}" width="{length - LABELS:.1f}" height="{BAR}" fill="{colour}"/>',
        f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" stroke="{INK}"/>',
        text(high + 6, y + BAR - 5, f"{median:.2f} s")])


def panel(y, title, results):
    """(SVG, its height) of one contest; who is n/a is left out."""
    bars = [(r.name, stats.values(r, stats.seconds)) for r in results.values() if r.samples and not r.reason]
    if not bars:
        return "", 0
    scale = max(max(numbers) for _, numbers in bars)
    parts = [text(12, y + 22, title, 14, weight="bold")]
    y += HEAD
    for name, numbers in bars:
        parts.append(bar(y, name, stats.median(numbers), stats.spread(numbers), scale))
        y += BAR + GAP
    return "\n".join(parts), HEAD + len(bars) * (BAR + GAP) + 8


def draw(panels, caption):
    """`panels`: (title, results) of each contest."""
    parts, y = [], 44
    for title, results in panels:
        svg, height = panel(y, title, results)
        parts.append(svg)
        y += height
    parts.append(text(12, y + 20, caption, 11))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 32}" font-family="sans-serif">\n'
            f'<rect width="100%" height="100%" fill="white"/>\n'
            + text(12, 26, "Wall time, until the data is on disk (median; line: fastest to slowest run)", 16, weight="bold")
            + "\n" + "\n".join(parts) + "\n</svg>\n")
