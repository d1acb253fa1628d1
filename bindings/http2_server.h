// The server's side of HTTP/2. A connection belongs to a task, which takes its requests; each of
// them is answered by a task of its own, with the functions that a connection of HTTP/1 has.
#pragma once

#include <deque>
#include <lua.hpp>
#include <memory>
#include <string>

#include "http1_server.h"
#include "http2_session.h"
#include "wait_point.h"

namespace rille::http2 {

// What the connections of a server have in common.
struct Server {
  explicit Server(const http1::ServerOptions& o) : options(o) {}

  http1::ServerOptions options;
  http1::DateField date;
  Fields fields;  // for putting a head together
  bool is_stopped = false;
};

class Connection;

class Request final : public Exchange {
 public:
  Request(std::shared_ptr<Server> server, std::shared_ptr<const std::string> peer)
      : server_(std::move(server)), peer_(std::move(peer)) {}

  // First line and fields, in the form of HTTP/1.
  const std::string& head() const { return head_; }
  const std::string& peer() const { return *peer_; }
  const std::vector<std::string>& trailers() const { return trailers_; }

  // These are what http1::Connection has: see there.
  int read_body(lua_State* L, std::size_t most);
  int read_chunk(lua_State* L);
  bool limit_body(std::uint64_t bytes);
  bool has_body() const { return has_body_; }
  int respond(lua_State* L, const http1::ResponseHead& head, std::string_view body, int flags);
  bool start(const http1::ResponseHead& head, int flags);
  bool take_back();
  void flush();
  int send(lua_State* L, std::string_view data);
  bool finish(std::string_view trailers);
  int wait_end(lua_State* L);
  bool has_ended() const { return session() == nullptr || peer_ended_; }
  void cut();

  // Nobody answers it any more: if it was not answered in full, the peer is told so.
  void leave();

  // True until its response has been sent in full.
  bool is_open() const { return session() != nullptr; }

 protected:
  bool field(std::string_view name, std::string_view value) override;
  bool head(bool ends) override;
  void data(std::string_view bytes) override;
  void ended() override;
  void sent() override;
  void finished() override;
  void closed(std::uint32_t code) override;

 private:
  friend class Connection;

  void begin_head();
  bool special_field(std::string_view name, std::string_view value);
  bool trailer(std::string_view name, std::string_view value);
  bool count_field(std::size_t size);
  void refuse(int status, const char* fault);
  Connection* connection() const;
  bool is_live() const { return session() != nullptr && !answered_; }
  bool is_body_known(std::size_t most) const;
  void expect_body(std::uint64_t ms);
  void give_back();
  void append_head(Fields* to, const http1::ResponseHead& head, int flags) const;
  void queue(std::string_view data, bool ends);
  int wait_until_sent(lua_State* L);
  int push_fault(lua_State* L, std::size_t most);
  int push_body(lua_State* L);
  int push_chunk(lua_State* L);
  static int push_end(lua_State* L, void* self);
  static int push_sent(lua_State* L, void* self);
  // What is due at `time` is done; the earliest of what is not is returned.
  std::uint64_t check_deadlines(std::uint64_t time);

  std::shared_ptr<Server> server_;
  std::shared_ptr<const std::string> peer_;
  std::string head_;
  std::string method_;
  std::string path_;
  std::string authority_;
  std::string cookie_;
  std::vector<std::string> trailers_;
  std::string body_;
  Fields response_;  // started, and not sent
  WaitPoint body_point_;
  WaitPoint send_point_;
  WaitPoint end_point_;
  std::uint64_t length_ = 0;
  std::uint64_t body_limit_ = 0;
  std::uint64_t received_ = 0;
  std::uint64_t head_deadline_ = 0;
  std::uint64_t body_deadline_ = 0;
  std::uint64_t send_deadline_ = 0;
  std::uint64_t queued_ = 0;       // of the response's body, all in all
  std::uint64_t sent_mark_ = 0;    // of it, when the deadline for sending was set
  std::uint64_t body_since_ = 0;   // when waiting for it began
  std::uint64_t body_waited_ = 0;  // before that
  std::uint64_t left_ = 0;         // of the length that was announced
  std::size_t most_body_ = 0;
  std::size_t owed_ = 0;  // bytes of the window that were not given back
  std::size_t head_bytes_ = 0;
  std::size_t fields_ = 0;
  const char* refusal_text_ = "";
  int refusal_ = 0;  // the status to answer the head with
  const char* body_fault_ = nullptr;
  int body_status_ = 0;
  bool has_host_ = false;
  bool has_head_ = false;
  bool has_body_ = true;
  bool has_length_ = false;
  bool is_head_request_ = false;
  bool expects_continue_ = false;
  bool body_ended_ = false;
  bool discards_ = false;
  bool peer_ended_ = false;  // the connection's other side says no more
  bool started_ = false;     // the response
  bool begun_ = false;       // its head has gone
  bool answered_ = false;    // nothing of it is missing
  bool has_length_left_ = false;
  bool sends_body_ = false;
  bool closes_ = false;  // the connection ends with it
  bool is_cut_ = false;
  bool taken_ = false;  // by a task
};

// A request's object in Lua.
struct RequestBox {
  static constexpr char kName[] = "rille.Http2Request";
  explicit RequestBox(std::shared_ptr<Request> r) : request(std::move(r)) {}
  std::shared_ptr<Request> request;
};

class Connection final : public Session {
 public:
  Connection(uv_loop_t* loop, std::shared_ptr<Server> server, std::unique_ptr<Transport> transport,
             std::string peer);

  // Waits for a request: nil, it, and its head; nil and nil when there are no more, nil and false
  // if it is to be asked again.
  int next_request(lua_State* L);

  // A request that was refused before anybody saw it, if the server wants to know: status, bytes,
  // first line; or nothing.
  int refusal(lua_State* L);

  // No further request is taken; those in progress are still answered.
  void stop();

  const std::string& peer() const { return *peer_; }

 protected:
  std::shared_ptr<Exchange> opened() override;
  void input_ended(const Failure& failure) override;
  void over() override;
  void changed() override;
  void tick(std::uint64_t time) override;
  bool allow_frame() override;

 private:
  friend class Request;

  struct Refusal {
    int status;
    std::size_t bytes;
    std::string line;
  };

  void ready(Request* r);
  void refused(Refusal refusal);
  std::uint64_t taken();
  static int push_request(lua_State* L, void* self);

  std::shared_ptr<Server> server_;
  std::shared_ptr<const std::string> peer_;
  std::deque<std::shared_ptr<Request>> ready_;
  std::deque<Refusal> refusals_;
  WaitPoint point_;
  std::uint64_t requests_ = 0;
  std::uint64_t idle_deadline_ = 0;
  std::uint64_t block_deadline_ = 0;  // while the peer is slow to take what was written
  std::uint64_t taken_mark_ = 0;      // what it had taken when that was set
  std::uint64_t allowance_time_ = 0;
  double allowance_;
};

}  // namespace rille::http2
