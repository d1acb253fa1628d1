// The client's side of HTTP/2: a connection, and the requests that share it.
#pragma once

#include <deque>
#include <lua.hpp>
#include <memory>
#include <string>
#include <vector>

#include "http2_session.h"
#include "wait_point.h"

namespace rille::http2 {

constexpr std::size_t kMostHead = 65536;  // of a response, in bytes

class ClientSession;

// A request and its response. What the response has brought is kept until somebody wants it; the
// server may send more as it is taken.
class ClientExchange final : public Exchange, public std::enable_shared_from_this<ClientExchange> {
 public:
  struct Options {
    bool has_no_body = false;  // whatever the response's head says: HEAD
    bool collects = false;     // all of the body is wanted, in one piece
    bool more = false;         // of the request's body will follow
    std::uint64_t most_body = 0;
  };

  // Sends the request: a head as in HTTP/1, with all of its body or none of it. False if the
  // connection takes no more.
  bool begin(ClientSession* session, std::string_view request, const Options& options);

  // Writes more of the request's body, and waits while the server is slow to take it.
  int send(lua_State* L, std::string_view data);

  // What to wait for: see http1::ClientConnection.
  enum class Want { kContinue, kHead, kBody, kPiece, kAll };
  int wait(lua_State* L, Want want);

  // What came behind the body: names and values in turn.
  const std::vector<std::string>& trailers() const { return trailers_; }

  // Ends it, whatever is missing.
  void close();

  bool has_head() const { return has_head_ || is_over(); }
  bool wants_more() const { return session() && !is_over(); }
  // True while the server has not answered in any way.
  bool is_untouched() const { return !is_touched_; }
  // The server has not even looked at it.
  bool was_refused() const { return was_refused_; }
  bool is_over() const { return is_complete_ || is_closed_; }

 private:
  bool field(std::string_view name, std::string_view value) override;
  bool head(bool ends) override;
  void data(std::string_view bytes) override;
  void ended() override;
  void sent() override;
  void closed(std::uint32_t code) override;
  bool refuse(const char* fault);
  bool is_satisfied() const;
  void wake();
  int push(lua_State* L);
  void push_head(lua_State* L);
  int push_fault(lua_State* L);

  ClientSession* owner_ = nullptr;
  std::string name_;
  std::string head_;
  std::string body_;
  std::vector<std::string> trailers_;
  std::string fault_;
  Failure failure_;
  WaitPoint reader_;
  WaitPoint writer_;
  std::size_t untaken_ = 0;  // of the window
  std::size_t fields_ = 0;
  std::size_t trailer_bytes_ = 0;
  std::uint64_t received_ = 0;
  std::uint64_t most_body_ = 0;
  Want want_ = Want::kHead;
  int status_ = 0;
  int interim_ = 0;
  int present_ = 0;  // fields that a client has to look at
  bool collects_ = false;
  bool may_go_on_ = false;
  bool has_head_ = false;
  bool is_touched_ = false;
  bool is_complete_ = false;
  bool is_closed_ = false;
  bool was_refused_ = false;
  bool gave_up_ = false;  // it was closed on this side
};

// Lives in a shared_ptr: the connection's userdata has it, and those of its requests.
class ClientSession final : public Session, public std::enable_shared_from_this<ClientSession> {
 public:
  ClientSession(uv_loop_t* loop, std::unique_ptr<Transport> transport, std::string name,
                std::string scheme, std::uint64_t idle_ms);

  const std::string& name() const { return name_; }
  const std::string& scheme() const { return scheme_; }

  // Waits until the server allows another request, and gives a stream for it; nothing if the
  // connection takes no more. Of those who wait the lowest ticket comes first.
  int open_stream(lua_State* L, double ticket);
  // A place that open_stream gave was not used.
  void free_place();
  // It is used now.
  void use_place() { --reserved_; }
  bool is_idle() const { return exchanges() + reserved_ == 0 && places_.empty(); }

  // A request goes out; one is given up. When nothing at all has come for a while the server may be
  // out of reach: then others are not sent here any more.
  void note_request();
  void note_loss();

  // Tells the server, and ends.
  void shut();

  // Why the streams end.
  bool was_shut() const { return was_shut_; }
  const Failure& failure() const { return failure_; }
  const char* fault() const { return fault_; }
  bool was_cut() const { return is_broken() || failure_; }

 private:
  struct Place;

  void input_ended(const Failure& failure) override;
  void over() override { serve(); }
  void changed() override;
  void tick(std::uint64_t before) override;
  bool allow_frame() override;
  void serve();
  void note_idle();
  // The first request does not wait for what the server allows; more of them could be refused.
  bool has_place() const { return exchanges() + reserved_ < (has_settings() ? most_streams() : 1); }

  std::string name_;
  std::string scheme_;
  std::deque<Place*> places_;  // of tasks that wait for one
  std::size_t reserved_ = 0;
  Failure failure_;
  const char* fault_ = nullptr;
  std::uint64_t idle_ms_;  // 0: for ever
  std::uint64_t idle_since_ = 0;
  std::uint64_t frames_since_ = 0;
  std::uint64_t asked_at_ = 0;  // the first request since something has come
  int frames_ = 0;
  bool was_shut_ = false;
};

// A stream as Lua has it: a place at first, then an exchange.
struct ClientStream {
  static constexpr char kName[] = "rille.Http2ClientStream";

  explicit ClientStream(std::shared_ptr<ClientSession> s)
      : session(std::move(s)), exchange(std::make_shared<ClientExchange>()) {}
  ~ClientStream() { close(); }

  void close() {
    if (std::exchange(has_place, false)) session->free_place();
    exchange->close();
  }

  std::shared_ptr<ClientSession> session;
  std::shared_ptr<ClientExchange> exchange;
  bool has_place = true;
};

struct ClientConnection {
  static constexpr char kName[] = "rille.Http2ClientConnection";
  explicit ClientConnection(std::shared_ptr<ClientSession> s) : session(std::move(s)) {}
  std::shared_ptr<ClientSession> session;
};

}  // namespace rille::http2
