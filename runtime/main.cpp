// The executable: a host like any other, with cxxopts.
#include <fcntl.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <signal.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
// A comma in the name of a folder does not begin another one.
#define CXXOPTS_VECTOR_DELIMITER '\0'
#include <cxxopts.hpp>
#include <exception>
#include <iostream>
#include <rille/rille.hpp>
#include <sstream>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>

// Whoever leaves by os.exit leaves everything where it is; leaks are looked for at the regular end.
static bool has_ended = false;
extern "C" __attribute__((visibility("default"))) int __lsan_is_turned_off() { return !has_ended; }
#endif

namespace {

// ---- SIGINT and SIGTERM ------------------------------------------------------------------------
// The first cancels the main task, so that clean-up runs. The second ends the process at once, even
// in clean-up, and even while Lua runs without waiting: so it is seen to in the handler itself.

volatile sig_atomic_t signals_seen = 0;
volatile sig_atomic_t first_signal = 0;
uv_async_t* signal_wakeup = nullptr;

void on_signal(int number) {
  signals_seen = signals_seen + 1;
  if (signals_seen > 1) {
    signal(number, SIG_DFL);
    raise(number);
    return;
  }
  first_signal = number;
  uv_async_send(signal_wakeup);  // the one function of libuv that a handler may call
}

const char* signal_name(int number) { return number == SIGINT ? "SIGINT" : "SIGTERM"; }

class SignalWatch {
 public:
  explicit SignalWatch(rille::Runtime* runtime) {
    signal_wakeup = new uv_async_t;
    signal_wakeup->data = runtime;
    uv_async_init(runtime->loop(), signal_wakeup, [](uv_async_t* wakeup) {
      static_cast<rille::Runtime*>(wakeup->data)->cancel(signal_name(first_signal));
    });
    uv_unref(reinterpret_cast<uv_handle_t*>(signal_wakeup));
    struct sigaction action = {};
    action.sa_handler = on_signal;
    sigemptyset(&action.sa_mask);
    // uv_async_send may be interrupted by the second signal; SA_NODEFER lets that one through.
    action.sa_flags = SA_RESTART | SA_NODEFER;
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
  }
};

// ---- the command line --------------------------------------------------------------------------

struct CommandLine {
  rille::Options options;
  std::string script;
  std::string code;
  bool has_code = false;
};

// Options that take a value of their own: what follows them is not the script.
bool takes_value(const char* arg) {
  for (const char* option : {"-e", "--execute", "--memory-limit", "--slice-limit"}) {
    if (std::strcmp(arg, option) == 0) return true;
  }
  return false;
}

// Options behind the script's name are the script's, so argv is parted before it is parsed.
int script_position(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const char* a = argv[i];
    if (std::strcmp(a, "--") == 0) return i;
    if (a[0] != '-' || a[1] == '\0') return i;
    if (takes_value(a)) ++i;
  }
  return argc;
}

[[noreturn]] void usage_error(const std::string& what) {
  std::cerr << "rille: " << what << "\nTry 'rille --help'.\n";
  std::exit(2);
}

void limit(const cxxopts::ParseResult& parsed, rille::Options* options) {
  using rille::Permissions;
  bool restricted = parsed.count("sandbox") > 0;
  Permissions granted = Permissions::none();
  auto grant = [&](const char* option, auto allow) {
    if (parsed.count(option) == 0) return;
    restricted = true;
    for (const auto& what : parsed[option].as<std::vector<std::string>>()) allow(what);
  };
  // Names have no commas in them, and may stand in a list.
  auto grant_names = [&](const char* option, auto allow) {
    grant(option, [&](const std::string& list) {
      if (list.empty()) allow(list);
      std::istringstream names(list);
      for (std::string name; std::getline(names, name, ',');) allow(name);
    });
  };
  grant("allow-read", [&](const std::string& dir) { granted.allow_read(dir); });
  grant("allow-write", [&](const std::string& dir) { granted.allow_write(dir); });
  grant("allow-run", [&](const std::string& cmd) { granted.allow_run(cmd); });
  grant_names("allow-net", [&](const std::string& host) { granted.allow_net(host); });
  grant_names("allow-env", [&](const std::string& name) { granted.allow_env(name); });
  grant_names("allow-module", [&](const std::string& name) { options->modules.push_back(name); });
  if (restricted) options->permissions = granted;
  if (parsed.count("memory-limit")) {
    options->memory_limit = parsed["memory-limit"].as<std::size_t>();
  }
  if (parsed.count("slice-limit")) options->slice_limit = parsed["slice-limit"].as<double>();
}

CommandLine parse(int argc, char** argv) {
  cxxopts::Options spec("rille", "Runs async Lua programs.");
  spec.custom_help("[options] [script.lua | -] [arguments...]");
  spec.add_options()("e,execute", "Run CODE", cxxopts::value<std::string>(), "CODE")(
      "debug",
      "Report what holds the loop up, lock orders that can deadlock, tasks destroyed while "
      "pending; also with RILLE_DEBUG=1")("version", "Print the version")("h,help",
                                                                          "Print this help");
  auto list = [] { return cxxopts::value<std::vector<std::string>>()->implicit_value("*"); };
  spec.add_options("Untrusted scripts")("sandbox",
                                        "Keep files, network, processes and the environment from "
                                        "the script, but for what is allowed (each option may be "
                                        "repeated, implies --sandbox, and allows all without a "
                                        "value)")("allow-read", "Files in DIR may be read", list(),
                                                  "DIR")(
      "allow-write", "Files in DIR may be written", list(), "DIR")(
      "allow-net", "It may be connected to, or listened on", list(), "HOST[:PORT]")(
      "allow-run", "The command may be run", list(), "CMD")("allow-env", "The variable may be used",
                                                            list(), "NAME")(
      "allow-module", "With one of these only such modules may be required", list(), "NAME")(
      "memory-limit", "The interpreter may take so much memory", cxxopts::value<std::size_t>(),
      "BYTES")("slice-limit", "Lua may hold the loop up for so long", cxxopts::value<double>(),
               "SECONDS");
  int position = script_position(argc, argv);
  CommandLine line;
  line.options.interruptible = false;  // signals end the program
  try {
    auto parsed = spec.parse(position, argv);
    if (parsed.count("help")) {
      std::cout << spec.help();
      std::exit(0);
    }
    if (parsed.count("version")) {
      std::cout << "Rille " << rille::version() << "\n";
      std::exit(0);
    }
    line.options.debug = parsed.count("debug") > 0;
    limit(parsed, &line.options);
    if (parsed.count("execute")) {
      line.code = parsed["execute"].as<std::string>();
      line.has_code = true;
    }
  } catch (const std::exception& e) {
    usage_error(e.what());
  }
  const char* debug = std::getenv("RILLE_DEBUG");
  if (debug && *debug && std::strcmp(debug, "0") != 0) line.options.debug = true;

  std::array<char, PATH_MAX> executable;
  std::size_t size = executable.size();
  if (uv_exepath(executable.data(), &size) == 0) {
    line.options.executable.assign(executable.data(), size);
  }
  if (position < argc && std::strcmp(argv[position], "--") == 0) ++position;
  line.options.command.assign(argv, argv + position);
  if (!line.has_code && position == argc && isatty(STDIN_FILENO)) {
    line.code = "require('rille.repl').run()";
    line.has_code = true;
  } else if (!line.has_code) {
    line.script = position < argc ? argv[position++] : "-";
    line.options.script = line.script;
  }
  for (; position < argc; ++position) line.options.args.emplace_back(argv[position]);
  return line;
}

// Puts out what stands in the buffers of files. A thread of a worker's that blocks in one of C's
// files holds that for good: it must not keep the process from its end.
void flush_files(int status) {
  static int status_then;
  constexpr unsigned kPatience = 2;  // seconds
  std::cout.flush();
  std::fflush(stdout);
  std::fflush(stderr);
  status_then = status;
  signal(SIGALRM, [](int) { _exit(status_then); });
  alarm(kPatience);
  std::fflush(nullptr);
  alarm(0);
}

// Ends by the signal's default disposition, so that a parent sees the signal.
void die_of(int number) {
  flush_files(128 + number);
  signal(number, SIG_DFL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  kill(getpid(), number);
}

int run(const CommandLine& line) {
  rille::Runtime runtime(line.options);
  SignalWatch watch(&runtime);
  int status = 0;
  try {
    if (line.has_code) {
      runtime.execute_string(line.code, "=(command line)");
    } else {
      runtime.execute_file(line.script);
    }
  } catch (const rille::Error& e) {
    if (runtime.exit_status() < 0) {
      if (e.cancelled() && signals_seen > 0) die_of(first_signal);
      std::fflush(stdout);
      std::cerr << "rille: " << e.text() << std::endl;
      status = 1;
    }
  }
  runtime.finish();
  if (runtime.has_libraries()) runtime.close();
  if (runtime.exit_status() >= 0) {
    status = runtime.exit_status();
  } else if (runtime.lost_errors() > 0) {
    status = 1;
  }
  flush_files(status);
#if defined(__SANITIZE_ADDRESS__)
  runtime.close();
  has_ended = true;
  if (__lsan_do_recoverable_leak_check()) status = 23;
#endif
  // Threads of libuv's pool may be blocked for good: exit() would wait for them.
  _exit(status);
}

// Where a standard descriptor is missing, the first file that is opened would get its number, and
// what is printed.
void fill_standard_descriptors() {
  for (int fd = 0; fd <= 2; ++fd) {
    if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0) return;
  }
}

}  // namespace

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  // Buffers of streams come and go: to give each back to the system and to fault it in again took
  // four fifths of the time of reading a gigabyte.
#ifdef __GLIBC__
  mallopt(M_TRIM_THRESHOLD, 4 << 20);
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
  fill_standard_descriptors();
  argv = uv_setup_args(argc, argv);  // the process's title is written over them
  try {
    return run(parse(argc, argv));
  } catch (const std::exception& e) {
    std::cerr << "rille: " << e.what() << "\n";
    return 1;
  }
}
