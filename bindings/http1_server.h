// The server's side of HTTP/1: accepting connections, cutting them into requests, answering.
//
// A connection belongs to a task, which asks for the next request, answers it, and so on. Requests
// are parsed as their bytes arrive, in the callbacks of the loop, so the task sleeps once for a
// request at most, and not at all if the next one is there. What is wrong with a request, or takes
// too long, is answered here; the task never hears of it.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <deque>
#include <lua.hpp>
#include <memory>
#include <string>

#include "http1_message.h"
#include "transport.h"
#include "wait_point.h"

namespace rille::http1 {

struct ServerOptions {
  Limits limits;
  std::size_t connections = 10000;  // 0: any number
  std::uint64_t header_ms = 10000;  // 0: as long as it takes
  std::uint64_t body_ms = 30000;
  std::uint64_t idle_ms = 60000;
  std::uint64_t write_ms = 30000;
};

class Connection;

// Shared by the server's object in Lua and its connections, whichever is collected last.
class Server : public std::enable_shared_from_this<Server> {
 public:
  Server(uv_loop_t* loop, const ServerOptions& options, char* space);
  ~Server();

  int listen(const sockaddr_storage& address, int backlog, const char** syscall);
  int port() const;  // REQUIRES: not stopped

  // Waits for a connection: nil and the connection, or nil and nil once the server has stopped.
  int accept(lua_State* L);

  // Takes no more connections; those in the kernel's backlog are reset.
  void stop();
  // The same, and whoever has been accepted and not taken is turned away.
  void abandon();

  const ServerOptions& options() const { return options_; }

 private:
  friend class Connection;

  void take();
  void join(Connection* c);
  void leave(Connection* c);
  void watch(std::uint64_t deadline);
  void tick();
  static int push_connection(lua_State* L, void* self);

  ServerOptions options_;
  StreamHandle listener_;
  Handle<uv_timer_t> timer_;
  std::deque<std::unique_ptr<Connection>> accepted_;
  WaitPoint acceptor_;
  Connection* first_ = nullptr;  // all that are open
  std::size_t open_ = 0;
  bool held_back_ = false;  // a connection waits for another one to end
  std::uint64_t due_ = UINT64_MAX;
  std::uint64_t last_tick_ = 0;
  DateField date_;
  std::string out_;  // for putting a response together
  char* space_;      // for bytes that arrive
};

class Connection final : Transport::Sink {
 public:
  Connection(std::shared_ptr<Server> server, StreamHandle handle);
  ~Connection();

  // Waits for a request: nil and its head, or nil and nil when there are no more.
  int next_request(lua_State* L);

  // Waits for the body of the request: nil and the body; nil, nil, a status and what is wrong; or
  // nil and nil once the request has been answered.
  int read_body(lua_State* L, std::size_t most);

  // Answers the request, and waits if the peer is slow to take it.
  enum Flag { kClose = 1, kNoDate = 2 };
  int respond(lua_State* L, const ResponseHead& head, std::string_view body, int flags);

  // No further request is taken; the one in progress is still answered.
  void drain();
  void close();

  // The peer's IP address.
  const std::string& remote() const { return remote_; }

 private:
  friend class Server;

  enum State : std::uint8_t {
    kReading,    // for a request to come
    kReady,      // its head is there, the task comes for it
    kHandling,   // the task has it
    kDraining,   // it is answered, but not all of its body has come
    kLingering,  // nothing is sent any more, the peer is given time to take what was
    kClosed,
  };

  void received(const char* data, std::size_t size) override;
  void ended(const Failure& failure) override;

  void begin_next();
  std::size_t parse(const char* data, std::size_t size);
  std::size_t take_body(const char* data, std::size_t size);
  std::size_t drop_body(const char* data, std::size_t size);
  void refuse(int status, const char* fault);
  void linger();
  void set_deadline(std::uint64_t ms);
  void expire();
  void go_on_reading();
  void hold_back();
  bool answers_close(int flags);
  static int push_request(lua_State* L, void* self);
  static int push_body(lua_State* L, void* self);
  int push_body(lua_State* L);

  std::shared_ptr<Server> server_;
  std::unique_ptr<Transport> transport_;
  Parser parser_;
  std::string input_;       // came before its time
  std::size_t parsed_ = 0;  // of it
  std::string remote_;
  WaitPoint request_point_;
  WaitPoint body_point_;        // mostly the same task's, but a handler may share its request
  std::uint64_t deadline_ = 0;  // 0: none
  std::size_t most_body_ = 0;
  unsigned answered_ = 0;  // how many requests
  unsigned waiting_ = 0;   // what it was when the body was asked for
  std::size_t drained_ = 0;
  const char* body_fault_ = nullptr;
  int body_status_ = 0;
  Connection* next_ = nullptr;
  Connection* prev_ = nullptr;
  State state_ = kReading;
  bool closing_ = false;  // after this request
  bool ended_ = false;    // the peer sends no more
  bool held_ = false;     // reading pauses
  bool writing_ = false;  // and waits for the peer
};

// listen(ip, port, options) -> server. Every option is there, 0 for no limit.
int listen(lua_State* L);

// Makes the classes of servers and connections.
void define_server(lua_State* L);

}  // namespace rille::http1
