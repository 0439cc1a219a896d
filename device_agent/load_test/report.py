"""The report of a load test as one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from device_agent.load_test.loads import AT_LEAST, GOALS
from device_agent.load_test.plots import Axis, Line, chart, linear_axis, log_axis, short

Document = Mapping[str, Any]
PHASES = ("queue", "input", "compute", "output")
BUSY = 0.9  # of all cores, from where on figures are also of what else ran

_STYLE = """
:root{--ink:#1b1f24;--soft:#59636e;--paper:#fff;--card:#f6f8fa;--edge:#d5dae0;--good:#1a7f37;
--bad:#cf222e;--c0:#0969da;--c1:#d1570a;--c2:#1a7f37;--c3:#8250df;--c4:#b3267a;--c5:#0a7a80;
--c6:#7a5c00;--c7:#57606a}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa4af;--paper:#0d1117;
--card:#161b22;--edge:#30363d;--good:#3fb950;--bad:#ff6a61;--c0:#58a6ff;--c1:#f0883e;
--c2:#3fb950;--c3:#bc8cff;--c4:#f778ba;--c5:#39c5cf;--c6:#d9b83b;--c7:#9aa4af}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:960px;padding:28px 20px 60px;background:var(--paper);
color:var(--ink);font:15px/1.5 system-ui,sans-serif}
h1{font-size:24px;margin:0 0 2px}h2{font-size:18px;margin:34px 0 8px}h3{font-size:15px;margin:0}
p{margin:4px 0}.soft{color:var(--soft)}
.banner{margin:18px 0;padding:12px 16px;border-radius:8px;border-left:5px solid var(--soft);
background:var(--card);font-weight:600}
.banner.good{border-color:var(--good)}.banner.bad{border-color:var(--bad)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:5px 8px;border-bottom:1px solid var(--edge);text-align:right;white-space:nowrap}
th{font-weight:600;color:var(--soft);font-size:13px}
th:first-child,td:first-child,.left{text-align:left}
td.wrap{white-space:normal;text-align:left}
.good-text{color:var(--good);font-weight:600}.bad-text{color:var(--bad);font-weight:600}
figure{margin:12px 0;padding:12px 14px 6px;background:var(--card);border-radius:8px}
figcaption{display:flex;flex-wrap:wrap;gap:2px 16px;align-items:baseline;margin-bottom:6px}
figcaption h3{flex:1 1 auto}
.key{white-space:nowrap;margin-right:8px;font-size:13px;color:var(--soft)}
.key i{display:inline-block;width:14px;height:3px;
border-radius:2px;margin-right:6px;background:var(--c);vertical-align:middle}
svg{display:block;width:100%;height:auto}
svg text{font:11px system-ui,sans-serif;fill:var(--soft)}
.grid{stroke:var(--edge);stroke-width:1;fill:none}
.line{fill:none;stroke:var(--c);stroke-width:1.8;stroke-linejoin:round}
.dashed{stroke-dasharray:5 4}.dot{fill:var(--c);opacity:.75}
.hover{fill:var(--c);opacity:0}.hover:hover{opacity:.8}
.mark{stroke:var(--bad);stroke-width:1.2;stroke-dasharray:6 4;fill:none}
svg .mark-text{fill:var(--bad);paint-order:stroke;stroke:var(--card);stroke-width:4px}
.bar{display:flex;width:130px;height:14px;border-radius:3px;overflow:hidden;background:var(--edge)}
.bar i{background:var(--c)}
""" + "".join(f".c{one}{{--c:var(--c{one})}}" for one in range(8))


def html_report(document: Document) -> str:
    """A whole page; ``document`` is what ``run_loads`` gives."""
    loads = document["loads"]
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    body = [
        "<h1>Load test</h1>",
        f'<p class="soft">{_text(document["at"])} · {short(document["seconds"])} s counted after '
        f"{short(document['warm_up_s'])} s of warming up · {_text(document['address'])} · "
        f"{_text(document['door'])}</p>",
        _banner(document),
        _goals(loads),
        "<h2>Loads</h2>",
        _table_of_loads(loads),
        '<p class="soft">Latency counts from the moment a request was due: time in which it '
        "waited for the generator or behind others is in it. Service is from sending to the "
        "answer. Percentiles are of answers, by nearest rank; a goal counts a request without "
        "an answer as later than any.</p>",
        _lateness(document),
        _errors(loads),
        _served(document["served"]),
        "<h2>Latency by percentile</h2>",
        _curves(loads),
        "<h2>Over time</h2>",
        _throughput(loads),
        *(_latency(load, number) for number, load in enumerate(loads)),
        _busy(document["busy"]),
        "<h2>Where and with what</h2>",
        _machine(document),
    ]
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Load test {_text(document['at'])}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def _text(value: object) -> str:
    return escape(str(value))


def ms_text(value: float | None) -> str:
    """Milliseconds with three digits that count."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def count_text(value: float) -> str:
    """A rate: whole from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def phase_text(times: Mapping[str, Any]) -> str:
    """p50 and p99 of a phase."""
    found = (times["p50_ms"], times["p99_ms"])
    return " / ".join(
        "–" if one is None else f"{one:.0f}" if one >= 10 else f"{one:.2g}" for one in found
    )


def goal_value(what: str, value: float) -> str:
    """A goal's number with its unit."""
    if what.endswith("-ms"):
        return f"{ms_text(value)} ms"
    return f"{value:.2%}" if what in ("failures", "accuracy") else f"{count_text(value)}/s"


def goal_words(goal: Mapping[str, Any]) -> tuple[str, str, str]:
    """(what was wanted, what was measured, met or not) of a goal in the document."""
    sign = "at least" if goal["what"] in AT_LEAST else "at most"
    wanted = f"{goal['what'].removesuffix('-ms')} {sign} {goal_value(goal['what'], goal['bound'])}"
    measured = "–" if goal["measured"] is None else goal_value(goal["what"], goal["measured"])
    return wanted, measured, {True: "met", False: "MISSED", None: "not known"}[goal["met"]]


def _banner(document: Document) -> str:
    goals = [goal for load in document["loads"] for goal in load["goals"]]
    met = sum(goal["met"] is True for goal in goals)
    if not goals:
        kind, words = "", "No goal was set: figures only."
    elif document["met"]:
        kind, words = "good", f"All {len(goals)} goals are met."
    else:
        verb = "is" if len(goals) - met == 1 else "are"
        kind, words = "bad", f"{len(goals) - met} of {len(goals)} goals {verb} not met."
    if document["interrupted"]:
        words += " It was interrupted: these are the figures until then."
    return f'<div class="banner {kind}">{words}</div>'


def _rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """At least one row; cells are HTML already."""
    left = [one.startswith(('<td class="left', '<td class="wrap')) for one in rows[0]]
    head = "".join(
        f'<th class="left">{_text(name)}</th>' if is_left else f"<th>{_text(name)}</th>"
        for name, is_left in zip(columns, left, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(one if one.startswith("<td") else f"<td>{one}</td>" for one in row)
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _goals(loads: Sequence[Document]) -> str:
    rows = []
    for load in loads:
        for goal in load["goals"]:
            wanted, measured, met = goal_words(goal)
            kind = "good-text" if goal["met"] else "bad-text"
            rows.append(
                [
                    _text(load["name"]),
                    f'<td class="left" title="{_text(GOALS[goal["what"]])}">{_text(wanted)}</td>',
                    _text(measured),
                    f'<td class="left {kind}">{met}</td>',
                    f'<td class="wrap soft">{_text(goal["why"])}</td>',
                ]
            )
    if not rows:
        return ""
    return "<h2>Goals</h2>" + _rows(["load", "wanted", "measured", "", ""], rows)


def how_asked(load: Document) -> str:
    """One load's way of asking in a few words."""
    if load["rate_hz"]:
        words = f"{short(load['rate_hz'])}/s {load['arrivals']}"
    else:
        words = f"{load['clients']} client{'s' if load['clients'] > 1 else ''}"
    words += f", batch {load['batch']}" if load["batch"] > 1 else ""
    return words + (f", {load['priority']}" if load["priority"] != "default" else "")


def _table_of_loads(loads: Sequence[Document]) -> str:
    columns = ["load", "requests", "failed", "answers/s"]
    columns += ["p50", "p90", "p99", "p99.9", "largest", "service p50"]
    with_labels = any(load["accuracy"] is not None for load in loads)
    columns += ["accuracy"] if with_labels else []
    rows = []
    for load in loads:
        lost = load["asked"] - load["answered"]
        latency = load["latency"]
        version = ", ".join(sorted(load["versions"])) or "none"
        words = _text(f"{how_asked(load)}; version {version}")
        rows.append(
            [
                f'{_text(load["name"])}<br><span class="soft">{words}</span>',
                f"{load['asked']:,}",
                f'<td class="{"bad-text" if lost else ""}">{lost:,}</td>',
                count_text(load["throughput"]),
                *(ms_text(latency[one]) for one in ("p50", "p90", "p99", "p999", "largest")),
                ms_text(load["service"]["p50"]),
                *([_accuracy(load)] if with_labels else []),
            ]
        )
    return _rows(columns, rows) + '<p class="soft">Latencies in milliseconds.</p>'


def _lateness(document: Document) -> str:
    """What the generator and the machine have to do with the figures."""
    late = [
        f"{_text(load['name'])} {ms_text(load['late_p99_ms'])} ms"
        for load in document["loads"]
        if load["rate_hz"] and load["late_p99_ms"] is not None
    ]
    share = document["busy_share"]
    words = f"Sent later than due, p99: {', '.join(late)}. " if late else ""
    if share is not None:
        words += f"All cores of this machine were busy for {share:.0%} of the time. "
        if share >= BUSY:
            words += "With hardly any of it free, other programs are in these figures too."
    return f'<p class="soft">{words}</p>'


def _served(served: Sequence[Document]) -> str:
    """Where the time of a request went in the agent."""
    rows = []
    for one in served:
        phases = one["phases"]
        means = [phases[name]["mean_ms"] or 0.0 for name in PHASES]
        whole = sum(means) or 1.0
        parts = "".join(
            f'<i class="c{number}" style="width:{100 * mean / whole:.1f}%"></i>'
            for number, mean in enumerate(means)
        )
        batch = one["batch_mean"]
        rows.append(
            [
                f'{_text(one["model"])}<br><span class="soft">{_text(one["version"])}</span>',
                "–" if batch is None else f"{batch:.2f}",
                *(phase_text(phases[name]) for name in PHASES),
                f'<td class="left"><div class="bar">{parts}</div></td>',
            ]
        )
    if not rows:
        return ""
    columns = ["model", "requests a run", *PHASES, "of the mean"]
    keys = " ".join(_key(name, number) for number, name in enumerate(PHASES))
    return (
        "<h2>Inside the agent</h2>"
        + _rows(columns, rows)
        + f'<p class="soft">{keys}</p>'
        + '<p class="soft">p50 / p99 in milliseconds of each phase, and each one\'s part of the '
        "mean: waiting for a turn, copying inputs, the engine, handing the answer over. All "
        "requests of the time are counted, also those of other applications.</p>"
    )


def _accuracy(load: Document) -> str:
    if load["accuracy"] is None:
        return "–"
    return f"{load['accuracy']:.1%} (top {load['top_k']})"


def _errors(loads: Sequence[Document]) -> str:
    rows = []
    for load in loads:
        for reason, count in sorted(load["failed"].items()):
            first = f'<td class="wrap">{_text(load["first_errors"].get(reason, ""))}</td>'
            rows.append([_text(load["name"]), _text(reason), f"{count:,}", first])
        if load["dropped"]:
            why = f'<td class="wrap">due for {load["deadline_ms"]:g} ms and not sent by then</td>'
            rows.append([_text(load["name"]), "dropped", f"{load['dropped']:,}", why])
    return "<h2>Failures</h2>" + _rows(["load", "kind", "requests", "first"], rows) if rows else ""


def _key(name: str, colour: int) -> str:
    return f'<span class="key"><i class="c{colour}"></i>{_text(name)}</span>'


def _figure(title: str, picture: str, keys: Sequence[tuple[str, int]]) -> str:
    legend = "".join(_key(name, colour) for name, colour in keys)
    return f"<figure><figcaption><h3>{_text(title)}</h3>{legend}</figcaption>{picture}</figure>"


def _curves(loads: Sequence[Document]) -> str:
    lines = [
        Line(
            name=load["name"],
            points=[(_nines(quantile, load["answered"]), ms) for quantile, ms in load["curve"]],
            colour=number,
        )
        for number, load in enumerate(loads)
    ]
    values = [ms for load in loads for _, ms in load["curve"]]
    if not values:
        return '<p class="soft">Nothing was answered.</p>'
    end = max(where for line in lines for where, _ in line.points)
    ticks = [(0.0, "0 %"), (_nines(0.5, 0), "50 %")]
    ticks += [(float(n), f"{100 * (1 - 10.0**-n):.{max(n - 2, 0)}f} %") for n in range(1, 7)]
    x = Axis(low=0.0, high=max(end, 1.0), ticks=[one for one in ticks if one[0] <= end])
    picture = chart(
        lines,
        x=x,
        y=log_axis(values, unit=" ms"),
        label="latency by percentile",
        unit=" ms",
    )
    return _figure(
        "This share of the answers came within", picture, [(one.name, one.colour) for one in lines]
    )


def _nines(quantile: float, count: int) -> float:
    """0.9 to 1, 0.99 to 2; the largest of ``count`` to where one more would stand."""
    return -math.log10(1 - quantile) if quantile < 1 else math.log10(max(count, 1) * 2)


def _time_axis(loads: Sequence[Document]) -> Axis:
    ends = [step["at_s"] + step["seconds"] for load in loads for step in load["over_time"]]
    whole = linear_axis([max(ends, default=1.0)], unit=" s")
    end = max(ends, default=1.0)
    return Axis(low=0.0, high=end, ticks=[one for one in whole.ticks if one[0] <= end * 1.001])


def _series(load: Document, key: str) -> list[tuple[float, float | None]]:
    return [(step["at_s"] + step["seconds"] / 2, step[key]) for step in load["over_time"]]


def _throughput(loads: Sequence[Document]) -> str:
    lines = [
        Line(name=load["name"], points=_series(load, "throughput"), colour=number)
        for number, load in enumerate(loads)
    ]
    keys = [(one.name, one.colour) for one in lines]
    for number, load in enumerate(loads):
        points = _series(load, "failures")
        if any(value for _, value in points):
            name = f"{load['name']}: without an answer"
            lines.append(Line(name=name, points=points, colour=number, dashed=True))
    values = [value for line in lines for _, value in line.points if value is not None]
    if not values:
        return ""
    y = linear_axis(values, unit="/s")
    dashed = " (dashed: requests without an answer)" if len(lines) > len(keys) else ""
    picture = chart(
        lines, x=_time_axis(loads), y=y, label="answers each second over time", unit="/s"
    )
    return _figure(f"Answers each second{dashed}", picture, keys)


def _latency(load: Document, number: int) -> str:
    lines = [
        Line(name="largest", points=_series(load, "largest_ms"), colour=7, dotted=True),
        Line(name="p99", points=_series(load, "p99_ms"), colour=1),
        Line(name="p50", points=_series(load, "p50_ms"), colour=0),
    ]
    values = [value for line in lines for _, value in line.points if value]
    if not values:
        return ""
    marks = [
        (goal["bound"], f"goal: {goal['what'].removesuffix('-ms')} {ms_text(goal['bound'])} ms")
        for goal in load["goals"]
        if goal["what"].endswith("-ms") and goal["bound"] > 0
    ]
    picture = chart(
        lines,
        x=_time_axis([load]),
        y=log_axis([*values, *(bound for bound, _ in marks)], unit=" ms"),
        label=f"latency of {load['name']} over time",
        unit=" ms",
        marks=marks,
    )
    return _figure(
        f"Latency of {load['name']}", picture, [(one.name, one.colour) for one in reversed(lines)]
    )


def _busy(busy: Sequence[Document]) -> str:
    points = [(one["at_s"], one["share"] * 100) for one in busy if one["at_s"] >= 0]
    if len(points) < 2:
        return ""
    x = _time_axis([{"over_time": [{"at_s": points[-1][0], "seconds": 0.0}]}])
    y = Axis(low=0.0, high=100.0, ticks=[(n, f"{n:.0f} %") for n in (0.0, 25.0, 50.0, 75.0, 100.0)])
    line = Line(name="busy", points=points, colour=2)
    picture = chart([line], x=x, y=y, label="busy share of all cores", unit=" %", height=150)
    return _figure("All cores of this machine, busy (generators included)", picture, [])


def _machine(document: Document) -> str:
    here = document["machine"]
    rows = [
        ["processor", _text(f"{here['processor']}, {here['cores']} cores")],
        ["memory", f"{here['memory_bytes'] / 2**30:.1f} GiB"],
        ["system", _text(here["system"])],
        ["Python", _text(here["python"])],
        *([_text(name), _text(version)] for name, version in document["versions"].items()),
        ["seed of arrivals and inputs", _text(document["seed"])],
    ]
    return _rows(["", ""], [[row[0], f'<td class="wrap">{row[1]}</td>'] for row in rows])
