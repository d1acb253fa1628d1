// A connection as tasks see it: rille.net's Stream, a child's pipes, the standard streams. Reading
// is buffered, writing waits while the peer is slow.
#pragma once

#include <deque>
#include <memory>
#include <rille/builtin.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "transport.h"

namespace rille {

// Lives in a userdata: Class<Stream>. Its methods in Lua are the table rille.core.stream.Stream,
// to which stdlib/net/stream.lua adds those that need no C++.
class Stream final : Transport::Sink {
 public:
  static constexpr char kName[] = "rille.Stream";

  // `name` is what errors call it: the peer's address, "stdin of process 42". `accepted` if the
  // peer has opened it.
  Stream(std::unique_ptr<Transport> transport, std::string name, bool accepted = false)
      : transport_(std::move(transport)), name_(std::move(name)), accepted_(accepted) {}
  ~Stream();

  bool is_open() const { return transport_ != nullptr; }
  const std::string& name() const { return name_; }
  bool was_accepted() const { return accepted_; }

  // REQUIRES of all below: open.
  Transport* transport() { return transport_.get(); }

  // True if bytes have come that nobody has read.
  bool has_input() const { return !input().empty(); }

  // True while a task reads or writes.
  bool is_busy() const { return !readers_.empty() || !writes_.empty(); }

  // Takes the transport out, so that another one can be put around it or a protocol goes on by
  // itself, and puts one in. Without one, the stream is closed. REQUIRES: not busy.
  std::unique_ptr<Transport> release();
  void set_transport(std::unique_ptr<Transport> transport) { transport_ = std::move(transport); }

  // Bytes that have come and that the transport does not know of: they are read before others.
  void put_back(std::string input) { input_ = std::move(input); }
  // Takes out what has come and nobody has read.
  std::string take_input() {
    std::string input(this->input());
    taken_ = 0;
    input_.clear();
    return input;
  }

  // Ends the stream at once; who waits in it is woken with InvalidStateError.
  void close() { detach(); }

 private:
  enum class Kind { kSome, kExactly, kUntil, kLine };
  struct Request;
  struct Reader;
  struct Write;
  struct Spares;
  friend struct StreamMethods;

  void received(const char* data, std::size_t size) override;
  void ended(const Failure& failure) override;

  std::string_view input() const { return std::string_view(input_).substr(taken_); }
  void take(std::size_t size);
  int read(lua_State* L, Request request);
  bool is_ready(Request* request) const;
  int push_result(lua_State* L, Request* request);
  int push_end(lua_State* L, const Request& request);
  void serve_readers();
  void wake_readers();
  void forget_readers();
  void let_go_of_writes();
  std::unique_ptr<Transport> detach();

  std::unique_ptr<Transport> transport_;
  std::string name_;
  std::string input_;
  std::size_t taken_ = 0;        // of it
  Charge input_charge_;          // for it, when it is large
  Spares* spares_ = nullptr;     // buffers for it, once something is read
  Failure end_;                  // why nothing more comes, once that is so
  std::deque<Reader*> readers_;  // the first one's turn it is
  std::vector<Write*> writes_;   // those in progress
  std::size_t at_once_ = 0;      // bytes written without a wait
  bool reading_ = false;
  bool shut_down_ = false;
  bool accepted_;
};

// Pushes an open stream, made of a handle that is connected.
Stream* push_stream(lua_State* L, StreamHandle handle, std::string name, bool accepted = false);

// The stream at `index`; an InvalidStateError if it is closed.
Stream* check_stream(lua_State* L, int index, const char* method);

}  // namespace rille
