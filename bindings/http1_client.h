// The client's side of HTTP/1: one connection, one exchange after another.
#pragma once

#include <lua.hpp>
#include <memory>
#include <string>
#include <vector>

#include "http1_message.h"
#include "stream.h"
#include "wait_point.h"

namespace rille::http1 {

// Lives in a userdata, and belongs to one exchange at a time. What the response has brought is kept
// until somebody wants it; when that is much, reading pauses.
class ClientConnection final : Transport::Sink {
 public:
  static constexpr char kName[] = "rille.HttpClientConnection";

  ClientConnection(std::unique_ptr<Transport> transport, std::string name)
      : transport_(std::move(transport)), name_(std::move(name)), parser_(HTTP_RESPONSE, limits_) {}

  // Sends the head of a request, perhaps with all of its body, without waiting. `most_body`: 0 for
  // any. False if the connection cannot be used any more.
  struct Exchange {
    bool has_no_body = false;  // whatever the response's head says: HEAD, CONNECT
    bool may_upgrade = false;  // a 101 is the response
    bool more = false;         // of the request's body will follow
    bool collects = false;     // all of the response's body is wanted, in one piece
    std::uint64_t most_body = 0;
  };
  bool begin(std::string_view request, const Exchange& exchange);

  // Writes more of the request's body, and waits while the server is slow to take it.
  int send(lua_State* L, std::string_view data);
  // All of it was written. Until then no other request may follow: the server would take it for the
  // rest of the body.
  void end_request() { is_sending_ = false; }

  // What to wait for, and what the wait gives: see the functions of the class in http1_client.cpp.
  enum class Want { kContinue, kHead, kBody, kPiece, kAll, kExchange };
  int wait(lua_State* L, Want want);

  // A whole exchange in one wait; afterwards the connection rests for `rest_ms`, if it can.
  int exchange(lua_State* L, std::string_view request, const Exchange& exchange,
               std::uint64_t rest_ms);

  // What came behind the body of the last response, once that has come to its end.
  const std::vector<std::string>& trailers() const {
    return rests_ ? trailers_ : parser_.trailers();
  }

  // True if another request may follow. REQUIRES: the response has come to its end.
  bool is_reusable() const;
  // True while nothing has come since the request was sent.
  bool is_untouched() const { return !has_begun_; }
  bool is_open() const { return transport_ != nullptr; }
  // Whether the rest of a request's body still makes sense: a server that has not refused it may
  // answer while it reads.
  bool wants_more() const {
    return !is_over() && !parser_.is_complete() && (!parser_.has_head() || parser_.status() < 300);
  }

  // Keeps the connection for another exchange. It closes by itself when the server closes it, says
  // something unasked, or after that time; 0: never. REQUIRES: reusable.
  void rest(std::uint64_t ms);

  void close();

  // Gives the transport away: after a 101, or a CONNECT. What came behind the response is `rest`.
  std::unique_ptr<Transport> release(std::string* rest);
  const std::string& name() const { return name_; }

 private:
  void received(const char* data, std::size_t size) override;
  void ended(const Failure& failure) override;
  void wake();
  bool is_satisfied() const;
  bool is_over() const { return fault_ || has_ended_ || !transport_; }
  int push(lua_State* L);
  void push_head(lua_State* L, bool is_complete);
  int push_exchange(lua_State* L);
  void expire();
  void read();
  void pause();

  std::unique_ptr<Transport> transport_;
  std::string name_;
  Limits limits_{65536, 1000, 0, 0};
  Parser parser_;
  Handle<uv_timer_t> timer_;
  std::vector<std::string> trailers_;  // of the last response, while the connection rests
  std::string rest_;                   // after the response
  Failure end_;
  const char* fault_ = nullptr;
  WaitPoint point_;
  Want want_ = Want::kHead;
  std::uint64_t rest_ms_ = 0;
  std::uint64_t rests_until_ = 0;  // on the loop's clock
  int interim_ = 0;
  bool may_upgrade_ = false;
  bool rests_ = false;
  bool in_exchange_ = false;
  bool is_sending_ = false;  // the request's body
  bool collects_ = false;
  bool has_begun_ = false;  // something has come
  bool may_go_on_ = false;  // a 100 has come
  bool has_ended_ = false;
  bool reading_ = false;
};

// client(stream) -> connection
int make_client(lua_State* L);

void define_client(lua_State* L);

}  // namespace rille::http1
