"""Runs one command of one peer, and says what it cost. Every figure is better when smaller."""
import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(HERE, "build")
DATA = os.path.join(BUILD, "data")
RILLE = os.path.abspath(os.environ.get("RILLE") or os.path.join(HERE, "..", "build", "rille"))
LIMIT = 120  # seconds that one run may take
IDEAL_SLEEP = 1.5  # seconds: the longest of the random sleeps


class Failure(Exception):
    """A run that gave no figure; the text says why."""


def fill(text, folder, **values):
    values = {"here": folder, "build": BUILD, "rille": RILLE, **values}
    for name, value in values.items():
        text = text.replace("{%s}" % name, str(value))
    return text


def environment(row):
    own = {name: fill(value, row.folder) for name, value in row.env.items()}
    return {**os.environ, "BENCH_DATA": DATA, "BENCH_WEB": DATA + "/web", "BENCH_NODE_MODULES": BUILD + "/node/node_modules", **own}


class Process:
    """A command in a process group of its own, perhaps on one processor, its peak memory taken."""

    def __init__(self, command, env, cpu=None, server=False):
        # A child forked from here would count this interpreter's memory as its own: time(1) forks it.
        self._rss = tempfile.NamedTemporaryFile("r", prefix="rille-bench-")
        # Servers are asked through /proc, under the process id of the server itself.
        words = [] if server else ["/usr/bin/time", "-q", "-f", "%M", "-o", self._rss.name]
        if cpu is not None and shutil.which("taskset"):
            words = ["taskset", "-c", str(cpu)] + words
        prefix = "exec env " if re.match(r"\w+=", command) else "exec "
        # A pipe nobody reads would stop a talkative server.
        self._err = tempfile.TemporaryFile()
        self.child = subprocess.Popen(
            words + ["sh", "-c", prefix + command], env=env, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if server else subprocess.PIPE, stderr=self._err,
            start_new_session=True)

    def finish(self, limit=LIMIT):
        """Waits, and returns what the process printed and its peak memory in KiB."""
        timer = threading.Timer(limit, self._signal, [signal.SIGKILL])
        timer.start()
        out = self.child.stdout.read().decode(errors="replace")
        status = self.child.wait()
        late = not timer.is_alive()
        timer.cancel()
        if late:
            raise Failure(f"over {limit:.0f} s")
        if status != 0:
            raise Failure(self.complaint() or f"exit status {status}")
        return out, int(self._rss.read() or 0)

    def complaint(self):
        self._err.seek(0)
        lines = self._err.read().decode(errors="replace").strip().splitlines()
        # The first line names the error; what follows is mostly a traceback. Python has it last.
        traceback = bool(lines) and lines[0].startswith("Traceback")
        return (lines[-1] if traceback else lines[0])[:120] if lines else ""

    def stop(self):
        """Ends a server, by force if it does not end by itself."""
        self._signal(signal.SIGTERM)
        try:
            self.child.wait(2)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self.child.wait()

    def _signal(self, number):
        try:
            os.killpg(self.child.pid, number)
        except ProcessLookupError:
            pass


def reported(text):
    """The line `workload n seconds ops_per_s` that every program prints: n, seconds, operations/s."""
    for line in text.splitlines():
        fields = line.split()
        try:
            return int(fields[1]), float(fields[2]), float(fields[3])
        except (IndexError, ValueError):
            pass
    raise Failure("printed no figure")


def measure_self(work, row, n):
    """The program measures itself."""
    command = fill(row.command, row.folder, w=work.program, n=max(min(n, 1000), int(n * row.scale)), port=free_port())
    out, rss = Process(command, environment(row)).finish()
    count, seconds, _ = reported(out)
    return {"figure": seconds / count * work.per, "rss": rss}


def measure_sleepers(work, row, n):
    """The time over the longest sleep, and the memory that each task adds over a thousand of them."""
    runs = {}
    for count in (1000, n):
        command = fill(row.command, row.folder, w=work.program, n=count, port=free_port())
        out, rss = Process(command, environment(row)).finish()
        runs[count] = reported(out)[1], rss
    seconds, rss = runs[n]
    return {"figure": seconds - IDEAL_SLEEP, "bytes": (rss - runs[1000][1]) * 1024 / max(1, n - 1000),
            "rss": rss}


def measure_startup(work, row, n):
    """From fork to the end of the process, without a shell in between."""
    command = fill(row.command, row.folder)
    _, rss = Process(command, environment(row)).finish()
    words, env = shlex.split(command), environment(row)
    path = shutil.which(words[0])
    null = os.open("/dev/null", os.O_RDWR)
    times = []
    for _ in range(n):
        start = time.perf_counter()
        pid = os.posix_spawn(path, words, env, file_actions=[(os.POSIX_SPAWN_DUP2, null, 0),
                                                            (os.POSIX_SPAWN_DUP2, null, 1)])
        os.waitpid(pid, 0)
        times.append((time.perf_counter() - start) * work.per)
    os.close(null)
    return {"figure": statistics.median(times), "rss": rss}


def measure_client(work, row, n):
    """A client against the C server, on a processor each."""
    port, env = free_port(), environment(row)
    server = Process(f"{BUILD}/c-libuv http_server {port}", env, cpu=1, server=True)
    try:
        wait_for_port(port, server)
        count = max(100, int(n * row.scale))
        command = fill(row.command, row.folder, w=work.program, n=count, port=port)
        out, rss = Process(command, env, cpu=0).finish()
        count, seconds, _ = reported(out)
        return {"figure": seconds / count * work.per, "rss": rss}
    finally:
        server.stop()


def measure_server(work, row, n):
    """A server on one processor, the load on the other: its processor time for each operation, since
    the load generator is the first to reach its limit."""
    seconds = float(os.environ.get("BENCH_SECONDS", "5"))
    port, env = free_port(), environment(row)
    command = fill(row.command, row.folder, w=work.program, n=port, port=port)
    server = Process(command, env, cpu=0, server=True)
    try:
        wait_for_port(port, server)
        pid = server.child.pid
        idle = memory(pid, "VmRSS")
        load(work, row, n, port, env, min(1, seconds))  # warms it up
        before = processor_time(pid)
        result, total = load(work, row, n, port, env, seconds)
        result["figure"] = (processor_time(pid) - before) / total * work.per
        result["rss"] = memory(pid, "VmHWM")
        if n >= 10_000:
            result["connection"] = (result["rss"] - idle) * 1024 / n
        return result
    finally:
        server.stop()


# What is asked for, where it is not "/".
PATHS = {"http_file": "/1m.bin", "http_file_small": "/4k.bin"}


def load(work, row, connections, port, env, seconds):
    is_http = work.program.startswith("http_")
    if is_http:
        path = "/static" if row.variant == "static" else PATHS.get(work.program, "/")
        script = f"{HERE}/load/{work.program}.lua"
        command = (f"wrk -t1 -c{connections} -d{seconds:g}s --latency --timeout 10s "
                   + (f"-s {script} " if os.path.exists(script) else "") + f"http://127.0.0.1:{port}{path}")
    elif work.program == "http2_server":
        command = f"h2load -t1 -c{connections} -m10 -D{seconds:g} http://127.0.0.1:{port}/"
    elif work.program.startswith("tls_"):
        command = f"{BUILD}/tlsload {work.program} {port} {seconds:g}"
    else:
        mode = work.program.removesuffix("_echo")
        command = f"{BUILD}/pingpong {mode} {port} {connections} {seconds:g} 64"
    out, _ = Process(command, env, cpu=1).finish(seconds + 30)
    if work.program.startswith("tls_"):
        total, _, rate = reported(out)
        return {"rate": rate}, total
    if work.program == "http2_server":
        total, failed = map(int, re.search(r"(\d+) succeeded, (\d+) failed", out).groups())
        if failed:
            raise Failure(f"{failed} requests failed")
        return {"rate": total / seconds}, total
    if not is_http:
        total, _, rate = reported(out)
        latency = [float(re.search(p + r"_us=(\S+)", out)[1]) for p in ("p50", "p99")]
    else:
        if bad := re.search(r"Non-2xx.*: \d+|Socket errors: .*", out):
            raise Failure(bad[0])
        total = int(re.search(r"(\d+) requests in", out)[1])
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
        latency = [microseconds(re.search(r"^\s+" + p + r"%\s+(\S+)", out, re.M)[1]) for p in ("50", "99")]
    return {"rate": rate, "p50": latency[0], "p99": latency[1]}, total


def microseconds(text):
    number, unit = re.match(r"([\d.]+)(us|ms|s)$", text).groups()
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


def processor_time(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid, name):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(re.search(name + r":\s+(\d+)", status.read())[1])


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for_port(port, server, limit=10):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if server.child.poll() is not None:
            raise Failure(server.complaint() or "the server left")
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            time.sleep(0.02)
    raise Failure("the server does not listen")


MEASURES = {"self": measure_self, "sleepers": measure_sleepers, "startup": measure_startup,
            "client": measure_client, "server": measure_server}


def make_files():
    """The files that the file workloads read, in the page cache."""
    big = os.path.join(DATA, "big")
    if not os.path.exists(big):
        os.makedirs(DATA, exist_ok=True)
        for i in range(10_000):
            with open(f"{DATA}/f{i}", "wb") as file:
                file.write(bytes([i & 255]) * 4096)
        with open(big + ".part", "wb") as file:
            for i in range(1024):
                file.write(bytes([i & 255]) * (1 << 20))
        os.rename(big + ".part", big)
    subprocess.run("cat big > /dev/null; find . -name 'f*' -exec cat {} + > /dev/null", shell=True,
                   cwd=DATA, check=True)


def make_web_files():
    """The files that servers send."""
    folder = DATA + "/web"
    os.makedirs(folder, exist_ok=True)
    for name, size in (("1m.bin", 1 << 20), ("4k.bin", 4096)):
        with open(f"{folder}/{name}", "wb") as file:
            file.write(bytes(range(256)) * (size // 256))


def make_json_files():
    """The documents of the JSON workloads, the same ones every time."""
    folder = DATA + "/json"
    if os.path.exists(folder):
        return
    rng = random.Random(1)
    words = "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor".split()

    def user(i):
        return {"id": i, "name": f"{rng.choice(words)} {rng.choice(words)}", "email": f"u{i}@example.com",
                "active": rng.random() < 0.5, "age": rng.randint(18, 90), "tags": rng.sample(words, 3), "note": None,
                "address": {"street": f"{i} main st", "zip": str(10000 + i % 89999),
                            "geo": [round(rng.uniform(-90, 90), 6), round(rng.uniform(-180, 180), 6)]}}

    def string():
        return "".join(rng.choice('abcdefghijklmnopqrstuvwxyz     "\\\n\té€') for _ in range(rng.randint(5, 120)))

    documents = {
        "objects": [user(i) for i in range(400)],
        "numbers": [[rng.uniform(-1000, 1000), rng.randint(-10**6, 10**6), i] for i in range(5000)],
        "strings": [string() for _ in range(2000)],
        "large": [user(i) for i in range(45000)],
    }
    os.makedirs(folder + ".part")
    for name, value in documents.items():
        with open(f"{folder}.part/{name}.json", "w", encoding="utf-8") as file:
            json.dump(value, file, separators=(",", ":"), ensure_ascii=False)
    os.rename(folder + ".part", folder)


def make_load():
    """The load generators, the C server that clients talk to, and a certificate."""
    os.makedirs(BUILD, exist_ok=True)
    if not os.path.exists(BUILD + "/cert.pem"):
        subprocess.run("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 "
                       "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 "
                       "-keyout key.pem -out cert.pem", shell=True, cwd=BUILD, check=True, capture_output=True)
    for target, source, libraries in (("pingpong", "load/pingpong.c", ""),
                                      ("tlsload", "load/tlsload.c", "-lssl -lcrypto"),
                                      ("c-libuv", "peers/c-libuv/bench.c", "-luv -lhttp_parser")):
        out, path = os.path.join(BUILD, target), os.path.join(HERE, source)
        if not os.path.exists(out) or os.path.getmtime(out) < os.path.getmtime(path):
            subprocess.run(f"gcc -O2 -o {out} {path} {libraries}", shell=True, check=True)
