// rille.core.line_editor: lines that are typed, edited by libedit. It waits for keys in the middle
// of its functions, so it has a thread of its own; the loop, and every task, go on meanwhile.
#include <histedit.h>
#include <locale.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <termios.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdlib>
#include <cwchar>
#include <mutex>
#include <rille/module.hpp>
#include <string>
#include <thread>

#include "stdio_fd.h"

namespace rille {
namespace {

termios former_mode;

// A task may end the process while a line is being edited.
void restore_mode() { tcsetattr(STDIN_FILENO, TCSANOW, &former_mode); }

class LineEditor {
 public:
  static constexpr char kName[] = "rille.core.LineEditor";

  explicit LineEditor(const std::string& program)
      : program_(program), wakeup_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    HistEvent event;
    history(history_, &event, H_SETSIZE, 1000);
    history(history_, &event, H_SETUNIQUE, 1);
    // Signals are for the loop's thread.
    sigset_t all;
    sigset_t former;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &former);
    thread_ = std::thread([this] { run(); });
    pthread_sigmask(SIG_SETMASK, &former, nullptr);
  }

  ~LineEditor() { close(); }

  void close() {
    if (!thread_.joinable()) return;
    tell(Order::kStop, &stopped_);
    thread_.join();
  }

  // Lets the user edit a line.
  int read(lua_State* L, std::string prompt) {
    return ask(L, Order::kRead, [&] { prompt_ = std::move(prompt); });
  }

  // Goes on after a request for completions: with what is to be inserted, or shown.
  int answer(lua_State* L, std::string insertion, std::string list) {
    return ask(L, Order::kAnswer, [&] {
      insertion_ = std::move(insertion);
      list_ = std::move(list);
    });
  }

  void interrupt() { tell(Order::kNone, &interrupted_); }
  void redraw() { tell(Order::kNone, &redraw_); }

  // REQUIRES: no line is being edited.
  void add(const std::string& line) {
    HistEvent event;
    history(history_, &event, H_ENTER, line.c_str());
  }

 private:
  enum class Order { kNone, kRead, kAnswer, kStop };
  enum class Kind { kLine, kEnd, kInterrupt, kComplete };

  struct Result {
    Kind kind;
    std::string text;

    static int push(lua_State* L, void* data) {
      std::unique_ptr<Result> self(static_cast<Result*>(data));
      if (!L) return 0;
      static const char* const kKinds[] = {"line", "end", "interrupt", "complete"};
      lua_pushnil(L);
      lua_pushstring(L, kKinds[static_cast<int>(self->kind)]);
      lua_pushlstring(L, self->text.data(), self->text.size());
      return 3;
    }
  };

  // ---- the loop's thread ----

  template <class Fill>
  int ask(lua_State* L, Order order, Fill fill) {
    if (stopped_) return luaL_error(L, "the line editor is closed");
    rille_waiter* waiter = rille_prepare(
        L, [](rille_waiter*, void* self) { static_cast<LineEditor*>(self)->interrupt(); }, this);
    {
      std::lock_guard lock(mutex_);
      fill();
      waiter_ = waiter;
      order_ = order;
      interrupted_ = false;
    }
    ordered_.notify_one();
    return rille_park(L, waiter);
  }

  void tell(Order order, bool* flag) {
    {
      std::lock_guard lock(mutex_);
      *flag = true;
      if (order != Order::kNone) order_ = order;
    }
    ordered_.notify_one();
    std::uint64_t one = 1;
    static_cast<void>(!write(wakeup_.get(), &one, sizeof one));
  }

  // ---- the editor's thread ----

  void run() {
    open();
    while (true) {
      {
        std::unique_lock lock(mutex_);
        ordered_.wait(lock, [this] { return order_ == Order::kRead || stopped_; });
        if (stopped_) break;
        order_ = Order::kNone;
      }
      edit();
    }
    el_end(editor_);
    history_end(history_);
    if (waiter_) finish(Kind::kEnd, "");
  }

  void open() {
    std::lock_guard lock(mutex_);
    editor_ = el_init(program_.c_str(), stdin, stdout, stderr);
    el_set(editor_, EL_CLIENTDATA, this);
    el_set(editor_, EL_SIGNAL, 0);
    el_set(editor_, EL_EDITOR, "emacs");
    el_set(editor_, EL_HIST, history, history_);
    el_set(
        editor_, EL_PROMPT, +[](EditLine* e) { return of(e)->prompt_.data(); });
    el_set(
        editor_, EL_GETCFN, +[](EditLine* e, wchar_t* c) { return of(e)->get(c); });
    // The narrow form would copy the texts and never free them.
    el_wset(
        editor_, EL_ADDFN, L"rille-complete", L"Complete the name before the cursor",
        +[](EditLine* e, int) { return of(e)->complete(); });
    el_set(editor_, EL_BIND, "^R", "em-inc-search-prev", nullptr);
    el_set(editor_, EL_BIND, "\\e[3~", "ed-delete-next-char", nullptr);
    el_set(editor_, EL_BIND, "\\e[1;5C", "em-next-word", nullptr);
    el_set(editor_, EL_BIND, "\\e[1;5D", "ed-prev-word", nullptr);
    el_source(editor_, nullptr);
    el_set(editor_, EL_BIND, "^I", "rille-complete", nullptr);
  }

  static LineEditor* of(EditLine* editor) {
    void* self = nullptr;
    el_get(editor, EL_CLIENTDATA, &self);
    return static_cast<LineEditor*>(self);
  }

  void edit() {
    int count = 0;
    // Else the first keys would be shown twice: by the terminal, and by the editor.
    el_set(editor_, EL_PREP_TERM, 1);
    const char* line = el_gets(editor_, &count);
    std::string text(line && count > 0 ? line : "",
                     line && count > 0 ? static_cast<std::size_t>(count) : 0);
    bool interrupted;
    {
      std::lock_guard lock(mutex_);
      interrupted = std::exchange(interrupted_, false) || stopped_;
    }
    std::fflush(stdout);
    if (interrupted) {
      el_reset(editor_);
      finish(Kind::kInterrupt, "");
    } else if (!line || count <= 0) {
      finish(Kind::kEnd, "");
    } else {
      if (text.back() == '\n') text.pop_back();
      finish(Kind::kLine, std::move(text));
    }
  }

  void finish(Kind kind, std::string text) {
    rille_waiter* waiter;
    {
      std::lock_guard lock(mutex_);
      waiter = std::exchange(waiter_, nullptr);
    }
    if (waiter) {
      rille_complete_from_thread(waiter, Result::push, new Result{kind, std::move(text)});
    }
  }

  // The next key: 1, or 0 for the end.
  int get(wchar_t* key) {
    std::mbstate_t state{};
    while (true) {
      pollfd wait[] = {{STDIN_FILENO, POLLIN, 0}, {wakeup_.get(), POLLIN, 0}};
      if (poll(wait, 2, -1) < 0) continue;
      if (wait[1].revents) {
        std::uint64_t count;
        static_cast<void>(!::read(wakeup_.get(), &count, sizeof count));
        if (is_over()) return 0;
      }
      if (!wait[0].revents) continue;
      char byte;
      ssize_t n = ::read(STDIN_FILENO, &byte, 1);
      if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
      if (n <= 0) return 0;
      std::size_t used = std::mbrtowc(key, &byte, 1, &state);
      if (used == static_cast<std::size_t>(-2)) continue;
      if (used == static_cast<std::size_t>(-1)) {
        state = {};
        continue;
      }
      return 1;
    }
  }

  // Whether the line need not be edited any further; else draws it again if that was asked for.
  bool is_over() {
    bool redraw;
    {
      std::lock_guard lock(mutex_);
      if (stopped_ || interrupted_) return true;
      redraw = std::exchange(redraw_, false);
    }
    if (redraw) {
      el_set(editor_, EL_PREP_TERM, 1);
      el_resize(editor_);
      el_set(editor_, EL_REFRESH);
    }
    return false;
  }

  unsigned char complete() {
    const LineInfo* line = el_line(editor_);
    std::string before(line->buffer, line->cursor);
    {
      std::lock_guard lock(mutex_);
      order_ = Order::kNone;  // an answer that came too late is none to this
    }
    finish(Kind::kComplete, std::move(before));
    std::string insertion;
    std::string list;
    {
      std::unique_lock lock(mutex_);
      ordered_.wait(lock, [this] { return order_ != Order::kNone || interrupted_; });
      if (order_ != Order::kAnswer) return CC_NORM;  // the end comes with the next key
      order_ = Order::kNone;
      insertion = std::move(insertion_);
      list = std::move(list_);
    }
    if (!insertion.empty()) {
      return el_insertstr(editor_, insertion.c_str()) == 0 ? CC_REFRESH : CC_ERROR;
    }
    if (list.empty()) return CC_ERROR;
    std::fprintf(stdout, "\n%s\n", list.c_str());
    return CC_REDISPLAY;
  }

  std::string program_;
  Descriptor wakeup_;
  EditLine* editor_ = nullptr;
  History* history_ = history_init();

  std::mutex mutex_;  // for all below
  std::condition_variable ordered_;
  Order order_ = Order::kNone;
  rille_waiter* waiter_ = nullptr;
  std::string prompt_;
  std::string insertion_;
  std::string list_;
  bool interrupted_ = false;
  bool redraw_ = false;
  bool stopped_ = false;

  std::thread thread_;
};

std::string string_at(lua_State* L, int index) {
  std::size_t size;
  const char* text = luaL_optlstring(L, index, "", &size);
  return std::string(text, size);
}

// open() -> editor
int open_editor(lua_State* L) {
  setlocale(LC_CTYPE, "");  // how keys become characters
  if (tcgetattr(STDIN_FILENO, &former_mode) == 0) std::atexit(restore_mode);
  Class<LineEditor>::push(L, "rille");
  return 1;
}

// editor:read(prompt) -> "line" | "end" | "interrupt" | "complete", text
int read_line(lua_State* L) { return Class<LineEditor>::check(L, 1)->read(L, string_at(L, 2)); }

// editor:answer(insertion, list) -> as read
int answer(lua_State* L) {
  return Class<LineEditor>::check(L, 1)->answer(L, string_at(L, 2), string_at(L, 3));
}

int add(lua_State* L) {
  Class<LineEditor>::check(L, 1)->add(string_at(L, 2));
  return 0;
}

int interrupt(lua_State* L) {
  Class<LineEditor>::check(L, 1)->interrupt();
  return 0;
}

int redraw(lua_State* L) {
  Class<LineEditor>::check(L, 1)->redraw();
  return 0;
}

int close_editor(lua_State* L) {
  Class<LineEditor>::check(L, 1)->close();
  return 0;
}

const rille_reg kMethods[] = {{"read", read_line, RILLE_WAITS},
                              {"answer", answer, RILLE_WAITS},
                              {"add", add, 0},
                              {"interrupt", interrupt, 0},
                              {"redraw", redraw, 0},
                              {"close", close_editor, 0},
                              {nullptr, nullptr, 0}};

const rille_reg kFunctions[] = {{"open", open_editor, 0}, {nullptr, nullptr, 0}};

}  // namespace
}  // namespace rille

extern "C" int luaopen_rille_core_line_editor(lua_State* L) {
  rille::Class<rille::LineEditor>::define(L, rille::kMethods);
  rille_newlib(L, rille::kFunctions);
  return 1;
}
