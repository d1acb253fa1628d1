#include "http1_client.h"

#include "http1_message.h"
#include "stream.h"

namespace rille::http1 {

namespace {

constexpr int kMostInterim = 100;  // 1xx answers before the real one

// One request and its response, over a socket that is taken over for it.
class Exchange final : public Waiting, Transport::Sink {
 public:
  Exchange(Stream* stream, std::uint64_t most_body, bool is_head)
      : Waiting(Operation{"read", {}, {}, stream->name()}),
        limits_{65536, 1000, 0, most_body},
        stream_(stream),
        parser_(HTTP_RESPONSE, limits_),
        is_head_(is_head) {}

  void start(std::string request) {
    if (is_head_) parser_.expect_no_body();
    stream_->transport()->read(this);
    stream_->transport()->write(std::move(request), nullptr);
  }

  // Who gives up half-way leaves a response behind that nobody may take for his own.
  void stop() override {
    stream_->close();
    complete(std::unique_ptr<Waiting>(this), UV_ECANCELED);
  }

  // head, body; or nil, what is wrong
  int push(lua_State* L) override {
    if (fault_) {
      lua_pushnil(L);
      lua_pushstring(L, fault_);
      return 2;
    }
    lua_pushlstring(L, parser_.head().data(), parser_.head().size());
    lua_pushlstring(L, parser_.body().data(), parser_.body().size());
    return 2;
  }

 private:
  void received(const char* data, std::size_t size) override {
    while (size > 0) {
      std::size_t used = parser_.feed(data, size);
      data += used;
      size -= used;
      if (parser_.has_failed()) return end(parser_.fault());
      if (!parser_.is_complete()) continue;
      if (parser_.status() >= 200) return end(nullptr);
      if (parser_.status() == 101) return end("the server changed to another protocol");
      if (++interim_ > kMostInterim) return end("too many interim responses");
      parser_.next();
    }
  }

  void ended(const Failure& failure) override {
    if (failure.status != UV_EOF) return end_with(failure.status);
    bool begun = parser_.has_begun();
    if (parser_.finish()) return end(nullptr);
    end(begun ? "the connection was closed in the middle of the response"
              : "the connection was closed before a response came");
  }

  void end(const char* fault) {
    fault_ = fault;
    end_with(0);
  }

  void end_with(int status) {
    stream_->transport()->pause();
    complete(std::unique_ptr<Waiting>(this), status);
  }

  Limits limits_;
  Stream* stream_;  // waits on the stack of the task
  Parser parser_;
  const char* fault_ = nullptr;
  int interim_ = 0;
  bool is_head_;
};

}  // namespace

int exchange(lua_State* L) {
  Stream* stream = check_stream(L, 1, "exchange");
  std::size_t size;
  const char* request = luaL_checklstring(L, 2, &size);
  auto most_body = static_cast<std::uint64_t>(luaL_checknumber(L, 3));
  auto op = std::make_unique<Exchange>(stream, most_body, lua_toboolean(L, 4) != 0);
  op->prepare(L);
  op->start(std::string(request, size));
  return park(L, std::move(op));
}

}  // namespace rille::http1
