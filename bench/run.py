#!/usr/bin/env python3
"""Measures Rille beside its floor and its peers.

    bench/run.py [WORKLOAD ...] [--rounds 3] [--peers rille,go] [--n N]
    bench/run.py --quick              a hundredth of the work, to see that every peer runs
    bench/run.py --list | --versions

Prints a ratio table. A run over all peers with the usual N also goes into bench/results.json and
bench/RESULTS.md, workload by workload; the others' figures stay there as they are.
"""
import argparse
import datetime
import glob
import json
import os
import platform
import re
import statistics
import subprocess
import sys

import measure
import report
from workloads import WORKLOADS

HERE = os.path.dirname(os.path.abspath(__file__))
STORED = os.path.join(HERE, "results.json")
DOCUMENT = os.path.join(HERE, "RESULTS.md")


class Row:
    """One command of a peer for one workload."""

    def __init__(self, peer, workload, variant, command, aside):
        self.peer, self.workload, self.variant, self.command = peer, workload, variant, command
        self.aside = aside  # shown, but no peer: it does less than the workload asks
        self.name = peer.name + (f" [{variant}]" if variant else "")
        self.folder, self.env = peer.folder, peer.env
        self.scale = 1.0
        self.runs, self.error = [], None

    def measure(self, work, n):
        if self.error:
            return
        try:
            self.runs.append(measure.MEASURES[work.kind](work, self, n))
        except (measure.Failure, OSError) as failure:
            self.error = str(failure).replace("|", "/")
            print(f"# {self.name}: {self.error}", file=sys.stderr)

    def result(self):
        row = {"name": self.name, "peer": self.peer.name, "variant": self.variant, "floor": self.peer.floor,
               "aside": self.aside}
        if self.error or not self.runs:
            return {**row, "error": self.error}
        values = [run["figure"] for run in self.runs]
        median = {key: statistics.median(run[key] for run in self.runs) for key in self.runs[0]}
        spread = (max(values) - min(values)) / abs(median["figure"]) * 100 if median["figure"] else 0
        return {**row, "median": {key: float(f"{x:.6g}") for key, x in median.items()},
                "best": float(f"{min(values):.6g}"), "spread": round(spread, 1)}


class Peer:
    """A folder in peers/, described by its file `commands` (see peers/README.md)."""

    def __init__(self, folder):
        self.folder, self.name = folder, os.path.basename(folder)
        self.env, self.needs, self.build, self.version, self.floor = {}, [], [], "", False
        self.rows, scales = [], {}
        path = os.path.join(folder, "commands")
        with open(path, encoding="utf-8") as file:
            for at, line in enumerate(file, 1):
                line = line.split(" #", 1)[0].strip()
                if line and not line.startswith("#"):
                    try:
                        self._read(line, scales)
                    except (KeyError, ValueError, AttributeError) as error:
                        sys.exit(f"{path}:{at}: {error}: {line}")
        for row in self.rows:
            row.scale = scales.get(row.workload, 1.0)

    def _read(self, line, scales):
        key, value = (part.strip() for part in line.split("=", 1))
        key, variant = re.fullmatch(r"(.*?)\s*(?:\[(.*)\])?", key).groups()
        first, *rest = key.split()
        if first == "version":
            self.version = value
        elif first == "needs":
            self.needs.append(value)
        elif first == "build":
            self.build.append(value)
        elif first == "floor":
            self.floor = value == "yes"
        elif first == "env":
            self.env[rest[0]] = value
        elif first == "scale":
            scales.update((workload, float(value)) for workload in rest)
        else:
            aside = first == "aside"
            for workload in rest if aside else [first] + rest:
                if workload not in WORKLOADS:
                    raise ValueError(f"no workload {workload}")
                self.rows.append(Row(self, workload, variant or "", value, aside))

    def _shell(self, command):
        return subprocess.run(measure.fill(command, self.folder), shell=True, capture_output=True, text=True,
                              check=False)

    def missing(self):
        """What it needs and is not here, or None."""
        return next((need for need in self.needs if self._shell(need).returncode), None)

    def make(self):
        for command in self.build:
            done = self._shell(command)
            if done.returncode:
                sys.exit(f"{self.name}: {command}\n{done.stderr}")

    def version_text(self):
        done = self._shell(self.version)
        return " ".join((done.stdout or done.stderr).split())[:200]


def run_workload(name, peers, rounds, n):
    """Each round goes over all peers in turn, so that a noisy minute touches them all alike."""
    work = WORKLOADS[name]
    n = n or work.n
    if name.startswith("file_") or name == "tls_bulk":
        measure.make_files()
    if name.startswith("http_file"):
        measure.make_web_files()
    if name.startswith("json_"):
        measure.make_json_files()
    rows = [row for peer in peers for row in peer.rows if row.workload == name]
    before = os.getloadavg()[0]
    for _ in range(rounds):
        for row in rows:
            row.measure(work, n)
    commit = subprocess.run(["git", "-C", HERE, "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                            check=False).stdout.strip()
    return {"n": n, "rounds": rounds, "commit": commit, "date": datetime.date.today().isoformat(),
            "load": [before, os.getloadavg()[0]], "rows": [row.result() for row in rows]}


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = re.search(r"model name\s*:\s*(.*)", file.read())
    return f"{os.cpu_count()} × {model[1] if model else platform.machine()}, Linux {platform.release()}"


def store(name, result, peers):
    stored = {"workloads": {}, "versions": {}}
    if os.path.exists(STORED):
        with open(STORED, encoding="utf-8") as file:
            stored = json.load(file)
    stored["machine"] = machine()
    stored["workloads"][name] = result
    stored["versions"].update((peer.name, peer.version_text()) for peer in peers)
    with open(STORED, "w", encoding="utf-8") as file:
        json.dump(stored, file, indent=1, sort_keys=True)
        file.write("\n")
    with open(DOCUMENT, "w", encoding="utf-8") as file:
        file.write(report.document(stored))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", help="names, with commas between them; all without it")
    parser.add_argument("--n", type=int, help="how many operations, instead of the workload's own N")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true", help="name the workloads")
    parser.add_argument("--versions", action="store_true", help="name the peers' versions")
    options = parser.parse_args()
    for name in options.workload:
        if name not in WORKLOADS:
            parser.error(f"no workload {name}; there are: {' '.join(WORKLOADS)}")
    return options


def main():
    options = arguments()
    if options.list:
        for name, work in WORKLOADS.items():
            print(f"{name}: N = {work.n:,}, {work.unit}")
        return
    names = options.workload or list(WORKLOADS)
    peers = [Peer(os.path.dirname(path)) for path in sorted(glob.glob(HERE + "/peers/*/commands"))]
    chosen = options.peers.split(",") if options.peers else [peer.name for peer in peers]
    if unknown := set(chosen) - {peer.name for peer in peers}:
        sys.exit(f"no such peer: {', '.join(sorted(unknown))}")
    peers = [peer for peer in peers if peer.name in chosen]
    if options.versions:
        for peer in peers:
            print(f"{peer.name}: {peer.version_text()}")
        return

    there = []
    for peer in peers:
        if need := peer.missing():
            print(f"# {peer.name} is left out, it needs: {measure.fill(need, peer.folder)}", file=sys.stderr)
        else:
            there.append(peer)
    measure.make_load()
    for peer in there:
        peer.make()

    if options.quick:
        options.rounds = 1
        os.environ["BENCH_SECONDS"] = "1"
    results = {}
    for name in names:
        n = options.n
        if options.quick and WORKLOADS[name].kind not in ("server", "startup"):
            n = max(1000, WORKLOADS[name].n // 100)
        results[name] = run_workload(name, there, options.rounds, n)
        print(report.section(name, results[name]) + "\n", flush=True)
        if not (options.quick or options.n or options.peers):
            store(name, results[name], there)
    print("## Ratios\n\n" + report.ratio_table(results))


if __name__ == "__main__":
    main()
