"""Turns figures into tables."""
from workloads import WORKLOADS, Ahead, AtMost

UNITS = {"bytes": "bytes a task", "rss": "MiB"}
METRICS = {"bytes": "bytes a task", "connection": "bytes a connection", "rss": "peak memory, MiB", "rate": "operations/s", "p50": "p50 µs",
           "p99": "p99 µs"}


def number(x):
    if abs(x) >= 100:
        return f"{x:,.0f}"
    return f"{x:.3f}" if abs(x) < 1 else f"{x:.3g}"


def value_of(metric, x):
    return number(x / 1024 if metric == "rss" else x)


def ratio(a, b):
    return f"{a / b:.2f}" if b > 0 else "–"


def figures(rows):
    return [row for row in rows if row.get("median")]


def figure(row):
    return row["median"]["figure"]


def find(rows, name):
    return next((row for row in figures(rows) if row["name"] == name), None)


def best_peer(rows, peer=""):
    """The best row of all peers, or of one; floors and rows that do less than the workload stand aside."""
    peers = [row for row in figures(rows) if not row["floor"] and not row["aside"] and row["peer"] != "rille"
             and peer in ("", row["peer"])]
    return min(peers, key=figure, default=None)


def judge(goal, row, rows):
    """The goal in words, and by what ratio to it the figure stands (at most 1: met); None: not measured."""
    if isinstance(goal, Ahead):
        other = best_peer(rows, goal.peer)
        text = f"ahead of {goal.peer or 'every peer'}"
        return text, other and figure(row) / figure(other)
    mine = row["median"].get(goal.metric)
    if goal.row:
        other = find(rows, goal.row)
        times = "1/3" if abs(goal.factor - 1 / 3) < 0.01 else f"{goal.factor:g}"
        text = f"at most {goal.row}" if goal.factor == 1 else f"at most {times} × {goal.row}"
        return text, other and mine / (goal.factor * other["median"][goal.metric])
    shown = goal.value / 1024 if goal.metric == "rss" else goal.value
    return f"at most {shown:g} {UNITS.get(goal.metric, '')}".rstrip(), mine / goal.value


def verdict(value):
    if value is None:
        return "not measured"
    return f"yes ({value:.2f})" if value <= 1 else f"**no** ({value:.2f})"


def ratio_table(results):
    """Rille beside its floor and the fastest peer, one line for each way of doing a workload."""
    lines = ["| workload | unit | Rille | floor | Rille / floor | fastest peer | Rille / peer | goal | met (figure / goal) |",
             "|---|---|---:|---:|---:|---|---:|---|---|"]
    for name, work in WORKLOADS.items():
        if name not in results:
            continue
        rows = results[name]["rows"]
        floor, peer = find(rows, work.floor), best_peer(rows)
        for row in rows:
            if row["peer"] != "rille":
                continue
            label = name + (f" [{row['variant']}]" if row["variant"] else "")
            mine = row.get("median")
            judged = [judge(goal, row, rows) for goal in work.goals] if mine else []
            shown = number(figure(row)) if mine else "–"
            for metric in {goal.metric for goal in work.goals if isinstance(goal, AtMost)} - {"figure"}:
                if mine:
                    shown += f", {value_of(metric, mine[metric])} {UNITS[metric]}"
            lines.append("| " + " | ".join([
                label, work.unit, shown,
                number(figure(floor)) if floor else "–",
                ratio(figure(row), figure(floor)) if mine and floor else "–",
                f"{peer['name']} {number(figure(peer))}" if peer else "–",
                ratio(figure(row), figure(peer)) if mine and peer else "–",
                "; ".join(text for text, _ in judged) or "–",
                "; ".join(verdict(value) for _, value in judged)
                or ("–" if mine else f"fails: {row['error']}")]) + " |")
    return "\n".join(lines)


def workload_table(name, result):
    """All peers, best first; floors in italics."""
    work, rows = WORKLOADS[name], result["rows"]
    extra = [m for m in METRICS if any(m in row["median"] for row in figures(rows))]
    lines = ["| | " + " | ".join([work.unit, "best", "spread %"] + [METRICS[m] for m in extra]) + " |",
             "|---|" + "---:|" * (3 + len(extra))]
    for row in sorted(figures(rows), key=figure):
        label = f"*{row['name']}*" if row["floor"] else row["name"]
        cells = [number(figure(row)), number(row["best"]), f"{row['spread']:.0f}"]
        cells += [value_of(m, row["median"][m]) if m in row["median"] else "" for m in extra]
        lines.append("| " + " | ".join([label] + cells) + " |")
    for row in rows:
        if not row.get("median"):
            lines.append(f"| {row['name']} | fails: {row['error']} |" + " |" * (2 + len(extra)))
    return "\n".join(lines)


def section(name, result):
    return (f"### {name}\n\nN = {result['n']:,}, medians of {result['rounds']} rounds, {result['date']}, commit "
            f"{result['commit']}, load average {result['load'][0]:.2f} before and {result['load'][1]:.2f} after.\n\n"
            + workload_table(name, result))


def document(stored):
    results = stored["workloads"]
    versions = "\n".join(f"- {peer}: {text}" for peer, text in sorted(stored["versions"].items()))
    parts = ["# What was measured",
             "Written by `make bench` (`bench/setup.sh` installs the peers); every figure is the median of "
             "the rounds, which go over all peers in turn, and is better when smaller. A floor is what plain C "
             "on libuv or a bare ring of coroutines takes; rows named \"no I/O served\" do less than the "
             "workload asks and are not counted as peers. What each workload does stands in "
             "[peers/README.md](peers/README.md).",
             f"Machine: {stored['machine']}.",
             "## Ratios", ratio_table(results), "## Versions", versions, "## All figures"]
    parts += [section(name, results[name]) for name in WORKLOADS if name in results]
    return "\n\n".join(parts) + "\n"
