#include "wire.h"

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "fuzz.h"
#include "stream.h"

namespace rille::fuzz {

namespace {

// What both ends know.
struct Line {
  struct Write {
    std::string data;
    Transport::Writer* writer;
  };
  Transport::Sink* sink = nullptr;
  std::string in;   // on its way to the code under test
  std::string out;  // what that has sent
  std::deque<Write> writes;
  bool is_slow = false;  // writes end only when the other end says so
  bool has_ended = false;
  bool is_reading = false;
  bool is_shut_down = false;
  bool is_closed = false;
};

class WireTransport final : public Transport {
 public:
  WireTransport(std::shared_ptr<Line> line, uv_loop_t* loop)
      : line_(std::move(line)), handle_(new uv_tcp_t) {
    uv_tcp_init(loop, handle_.get());
    uv_unref(reinterpret_cast<uv_handle_t*>(handle_.get()));
  }

  ~WireTransport() override {
    line_->is_closed = true;
    line_->sink = nullptr;
    Failure cancelled;
    cancelled.status = UV_ECANCELED;
    while (!line_->writes.empty()) {
      Line::Write write = std::move(line_->writes.front());
      line_->writes.pop_front();
      if (write.writer) write.writer->written(cancelled);
    }
  }

  void read(Sink* sink) override {
    line_->sink = sink;
    line_->is_reading = true;
  }
  void pause() override { line_->is_reading = false; }

  ssize_t try_write(const uv_buf_t* buffers, unsigned count) override {
    check_open();
    if (line_->is_slow) return 0;
    ssize_t total = 0;
    for (unsigned i = 0; i < count; ++i) {
      line_->out.append(buffers[i].base, buffers[i].len);
      total += static_cast<ssize_t>(buffers[i].len);
    }
    return total;
  }

  void write(std::string data, Writer* writer) override {
    check_open();
    if (line_->is_slow) return line_->writes.push_back({std::move(data), writer});
    line_->out += data;
    if (writer) writer->written({});
  }

  void shutdown(Writer* writer) override {
    line_->is_shut_down = true;
    if (!line_->writes.empty()) return line_->writes.push_back({{}, writer});
    if (writer) writer->written({});
  }

  std::size_t pending() const override {
    std::size_t total = 0;
    for (const auto& write : line_->writes) total += write.data.size();
    return total;
  }

  void abort() override {}
  uv_stream_t* handle() override { return reinterpret_cast<uv_stream_t*>(handle_.get()); }

 private:
  void check_open() const {
    if (line_->is_shut_down) fail("written after a shutdown");
  }

  std::shared_ptr<Line> line_;
  Handle<uv_tcp_t> handle_;
};

struct Wire {
  static constexpr char kName[] = "fuzz.Wire";
  explicit Wire(std::shared_ptr<Line> l) : line(std::move(l)) {}
  std::shared_ptr<Line> line;
};

std::shared_ptr<Line>& check(lua_State* L) { return Class<Wire>::check(L, 1)->line; }

// wire:feed(bytes)
int feed(lua_State* L) {
  std::size_t size;
  const char* data = luaL_checklstring(L, 2, &size);
  check(L)->in.append(data, size);
  return 0;
}

int finish(lua_State* L) {
  check(L)->has_ended = true;
  return 0;
}

// wire:move() -> whether anything was delivered, in one direction or the other
int move(lua_State* L) {
  std::shared_ptr<Line> line = check(L);
  bool moved = false;
  if (!line->writes.empty()) {
    Line::Write write = std::move(line->writes.front());
    line->writes.pop_front();
    line->out += write.data;
    moved = true;
    if (write.writer) write.writer->written({});
  }
  if (line->sink && line->is_reading && !line->in.empty()) {
    std::vector<char> block(line->in.begin(), line->in.end());  // so that overruns are seen
    line->in.clear();
    moved = true;
    line->sink->received(block.data(), block.size());
  } else if (line->sink && line->is_reading && line->has_ended) {
    line->is_reading = false;
    moved = true;
    Failure end;
    end.status = UV_EOF;
    line->sink->ended(end);
  }
  lua_pushboolean(L, moved);
  return 1;
}

int written(lua_State* L) {
  auto& line = check(L);
  lua_pushlstring(L, line->out.data(), line->out.size());
  return 1;
}

int is_closed(lua_State* L) {
  lua_pushboolean(L, check(L)->is_closed);
  return 1;
}

const rille_reg kMethods[] = {{"feed", feed, 0},           {"finish", finish, 0},
                              {"move", move, 0},           {"written", written, 0},
                              {"is_closed", is_closed, 0}, {nullptr, nullptr, 0}};

// wire(is_slow) -> stream, wire
int make(lua_State* L) {
  auto line = std::make_shared<Line>();
  line->is_slow = lua_toboolean(L, 1) != 0;
  Class<Stream>::push(L, std::make_unique<WireTransport>(line, rille_loop(L)), "127.0.0.1:9", true);
  Class<Wire>::push(L, std::move(line));
  return 2;
}

// cut(bytes, seed) -> pieces
int cut(lua_State* L) {
  std::size_t size;
  const char* data = luaL_checklstring(L, 1, &size);
  lua_newtable(L);
  int n = 0;
  for (Cutter cutter({data, size}, static_cast<unsigned>(luaL_checkint(L, 2)));
       !cutter.is_done();) {
    std::string_view piece = cutter.next();
    lua_pushlstring(L, piece.data(), piece.size());
    lua_rawseti(L, -2, ++n);
  }
  return 1;
}

const rille_reg kFunctions[] = {{"wire", make, 0}, {"cut", cut, 0}, {nullptr, nullptr, 0}};

int open(lua_State* L) {
  Class<Wire>::define(L, kMethods);
  rille_newlib(L, kFunctions);
  return 1;
}

}  // namespace

void preload_wire(lua_State* L) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  lua_pushcfunction(L, open);
  lua_setfield(L, -2, "fuzz.wire");
  lua_pop(L, 2);
}

}  // namespace rille::fuzz
