# SPDX-FileCopyrightText: the nasbackup founders
# SPDX-License-Identifier: Apache-2.0
"""The tables that compare prints: Markdown, aligned for people. Pure."""
import statistics_of as stats

GIB, MIB = 1 << 30, 1 << 20


def render(head, rows):
    rows = [head, *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def number(value, digits=2):
    return "–" if value is None else f"{value:.{digits}f}"


def span(pair, digits=2):
    return "–" if pair is None else f"{pair[0]:.{digits}f} … {pair[1]:.{digits}f}"


def measurement(result, data_bytes, counts_cpu=True):
    """The cells of one contender."""
    if result.reason:
        return [result.name, "n/a", result.reason.splitlines()[0][:80], "", "", "", "", "", "", ""]
    wall = stats.values(result, stats.seconds)
    cpu = stats.median(stats.values(result, stats.cpu_seconds)) if counts_cpu else None
    peak = max(stats.values(result, stats.peak_memory), default=0)
    per_gib = cpu * GIB / data_bytes if cpu is not None and data_bytes else None
    return [result.name, number(stats.median(wall), 3), span(stats.spread(wall), 3), number(cpu), number(per_gib),
            number(peak / MIB, 0) if counts_cpu and peak else "–", output(result), str(len(wall))]


def output(result):
    """MiB of its output, when it left one."""
    found = stats.median([sample.get("output_bytes", 0) for sample in result.samples])
    return number(found / MIB, 1) if found else "–"


def with_job(result):
    """A second line for who reads from a pull job that others begin and end for him."""
    if result.reason or not any("job_begin_seconds" in sample for sample in result.samples):
        return []
    wall = stats.values(result, stats.with_job)
    return [["… with the job's begin and end", number(stats.median(wall), 3), span(stats.spread(wall), 3), "", "", "", "", ""]]


def measurements(title, results, data_bytes):
    """One contest. CPU and memory of a push backup are QEMU's and not seen."""
    head = ["who", "median s", "min … max", "CPU s", "CPU s/GiB", "peak MiB", "output MiB", "runs"]
    rows = []
    for result in results.values():
        rows += [measurement(result, data_bytes, "push backup" not in result.name), *with_job(result)]
    return f"### {title}\n\n" + render(head, rows)


def stages(results):
    """Busy seconds of each stage of our runs, summed over what runs side by side; the median of each."""
    rows = {}
    for result in results.values():
        for sample in result.samples:
            for stage, seconds in sample.get("report", {}).get("stages", {}).items():
                rows.setdefault(stage, {}).setdefault(result.name, []).append(seconds)
    names = [result.name for result in results.values()]
    lines = [[stage, *(number(stats.median(found.get(name)), 3) for name in names)] for stage, found in rows.items()]
    return render(["busy seconds", *names], lines)


def peaks(title, results):
    """A contest that was sampled too densely for timing."""
    rows = []
    for result in results.values():
        found = stats.values(result, stats.peak_memory)
        rows.append([result.name, "n/a" if result.reason else number(max(found, default=0) / MIB, 1),
                     number(max((s["peak_rss"] for s in result.samples), default=0) / MIB, 1)])
    return f"### {title}\n\n" + render(["who", "peak MiB (PSS)", "sum of RSS"], rows)


def verdicts(judged):
    head = ["goal", "value", "each round", "wanted", "verdict"]
    rows = []
    for goal in judged:
        sign = "≥" if goal["least"] else "<" if goal["strictly"] else "≤"
        rows.append([goal["goal"], number(goal["value"]), span(goal["spread"]),
                     f"{sign} {goal['limit']:g} {goal['unit']}", goal["verdict"]])
    return "### Goals\n\n" + render(head, rows)
