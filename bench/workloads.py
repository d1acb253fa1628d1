"""What is measured, and what Rille is to reach in each."""
from dataclasses import dataclass, field

RING = "luajit-ring [C lua_resume/lua_yield]"
PLAIN = "luajit-ring [plain tables]"


@dataclass
class AtMost:
    """A figure of Rille's is at most `factor` times a row's, or at most `value`."""
    factor: float = 1.0
    row: str = ""
    value: float = 0.0
    metric: str = "figure"


@dataclass
class Ahead:
    """Rille's figure is smaller than that of the best row of a peer, or of all peers."""
    peer: str = ""


@dataclass
class Workload:
    kind: str
    n: int
    unit: str
    floor: str = ""  # the row that Rille is compared with
    goals: list = field(default_factory=list)
    program: str = ""  # what the programs call it, where that differs
    per: float = 1e9  # from seconds an operation to the unit


def self_measured(n, unit, floor="", goals=(), **rest):
    return Workload("self", n, unit, floor, list(goals), **rest)


MILLION = 1_000_000
WORKLOADS = {
    "switch2": self_measured(MILLION, "ns/switch", RING, [AtMost(2, RING), Ahead("go")]),
    "switch1000": self_measured(MILLION, "ns/switch", RING, [AtMost(2, RING), Ahead("go")]),
    "spawn_join": self_measured(MILLION, "ns/task", "luajit-ring [C, coroutines reused]", [Ahead()]),
    "sleepers": Workload("sleepers", 100_000, "s over 1.5 s", "c-libuv"),
    "sleepers_1m": Workload("sleepers", MILLION, "s over 1.5 s", "c-libuv",
                            [AtMost(value=800, metric="bytes"), AtMost(1, "node")], "sleepers"),
    "waitfor": self_measured(500_000, "ns/op", "c-libuv [timer handle reused]",
                             [AtMost(1 / 3, "go [1 core, context only]")]),
    "waitfor_yield": self_measured(500_000, "ns/op", "c-libuv", [Ahead("go")]),
    "queue11": self_measured(MILLION, "ns/item", "", [AtMost(value=15)]),
    "queue44": self_measured(MILLION, "ns/item", "", [AtMost(value=15)]),
    "semaphore": self_measured(MILLION, "ns/acquire", "", [Ahead()]),
    "lock": self_measured(500_000, "ns/acquire", "", [Ahead()]),
    "event": self_measured(MILLION, "ns/hand-over", "", [Ahead()]),
    "condition": self_measured(MILLION, "ns/hand-over", "", [Ahead()]),
    "lock_uncontended": self_measured(20 * MILLION, "ns/op", PLAIN, [AtMost(value=10)]),
    "semaphore_uncontended": self_measured(20 * MILLION, "ns/op", PLAIN, [AtMost(value=10)]),
    "queue_uncontended": self_measured(20 * MILLION, "ns/op", PLAIN, [AtMost(value=10)]),
    "executor": self_measured(100_000, "ns/job", "c-libuv", [AtMost(value=10_000)]),
    "cpu_map": self_measured(200, "ms/item", "rille [1 thread]", [AtMost(1 / 1.8, "rille [1 thread]")], per=1e3),
    "file_many": self_measured(50_000, "ns/file", "c-libuv [pool, one trip a file]",
                               [AtMost(1.3, "c-libuv [pool, one trip a file]"), Ahead()]),
    # The program counts bytes.
    "file_seq": self_measured(1, "ms/GiB", "c-libuv [sync]", [AtMost(1 / 0.75, "c-libuv [sync]")],
                              per=1e3 * 2**30),
    "spawn": self_measured(1000, "µs/process", "c-libuv [posix_spawn]", [Ahead()], per=1e6),
    "http_server": Workload("server", 64, "CPU µs/request", "c-libuv", [AtMost(1.25, "c-libuv")], per=1e6),
    "http_server_c1000": Workload("server", 1000, "CPU µs/request", "c-libuv", [], "http_server", per=1e6),
    # Ten requests at once on each of 16 connections.
    "http2_server": Workload("server", 16, "CPU µs/request", "nghttp2 [nghttpd]", [Ahead("node")], per=1e6),
    # A small document is decoded, another one encoded.
    "http_json": Workload("server", 64, "CPU µs/request", "", [Ahead()], per=1e6),
    "http_upload": Workload("server", 64, "CPU µs/64 KiB", "c-libuv", [Ahead()], per=1e6),
    "http_file": Workload("server", 64, "CPU µs/1 MiB", "c-libuv [from memory]", [Ahead("go"), Ahead("node")], per=1e6),
    "http_file_small": Workload("server", 64, "CPU µs/4 KiB", "c-libuv [from memory]", [Ahead("go"), Ahead("node")], per=1e6),
    "http_client": Workload("client", 50_000, "µs/request", "c-libuv",
                            [AtMost(1 / 0.7, "c-libuv"), AtMost(0.5, "go [net/http]")], per=1e6),
    "tcp_echo": Workload("server", 50, "CPU µs/message", "c-libuv",
                         [AtMost(1.1, "c-libuv"), Ahead("uvloop"), Ahead("go")], per=1e6),
    "tls_handshake": Workload("server", 1, "CPU µs/handshake", "openssl [s_server]", per=1e6),
    "tls_bulk": Workload("server", 1, "CPU ms/GiB", "openssl [s_server]",
                         [AtMost(1 / 0.8, "openssl [s_server]")], per=1e3 * 2**30),
    "ws_echo": Workload("server", 50, "CPU µs/message", "c-libuv", per=1e6),
    "ws_echo_10k": Workload("server", 10_000, "CPU µs/message", "c-libuv", [Ahead("go"), Ahead("node")], "ws_echo",
                            per=1e6),
    **{f"json_{what}_{kind}": self_measured(n, f"{unit}/document", "", [Ahead("cjson")], per=per)
       for what in ("decode", "encode")
       for kind, n, unit, per in [("objects", 1000, "µs", 1e6), ("numbers", 500, "µs", 1e6),
                                  ("strings", 1000, "µs", 1e6), ("large", 5, "ms", 1e3)]},
    "startup": Workload("startup", 50, "ms", "c-libuv",
                        [AtMost(value=4), AtMost(value=6 * 1024, metric="rss")], per=1e3),
}
for name, work in WORKLOADS.items():
    work.program = work.program or name
