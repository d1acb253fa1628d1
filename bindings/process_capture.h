// The pipes of process.run, which no task has to look after: all of a child's output, and the input
// that it is given.
#pragma once

#include <memory>

#include "fs_job.h"
#include "stdio_transport.h"
#include "wait_point.h"

namespace rille::process {

// Keeps what comes, until the end.
class Capture final : Transport::Sink {
 public:
  static constexpr char kName[] = "rille.core.Capture";

  Capture(std::unique_ptr<DescriptorTransport> transport, Charge charge)
      : transport_(std::move(transport)), data_(std::move(charge)) {}

  void start() { transport_->read(this); }

  // Waits for the end; gives an error if it is none in order, or if there is more than a string
  // can hold.
  int wait(lua_State* L);

  // Takes what is in the pipe at present, waits for nothing, and closes it.
  void close();

  // Pushes what has come. Not again: it may be large.
  void take(lua_State* L);

 private:
  void received(const char* data, std::size_t size) override;
  void ended(const Failure& failure) override;
  int push(lua_State* L);

  std::unique_ptr<DescriptorTransport> transport_;
  fs::Buffer data_;
  Failure end_;
  WaitPoint point_;
};

// Writes a text, then closes. A child that reads no more is no error.
class Feed final : Transport::Writer {
 public:
  static constexpr char kName[] = "rille.core.Feed";

  explicit Feed(std::unique_ptr<DescriptorTransport> transport)
      : transport_(std::move(transport)) {}
  ~Feed() { close(); }

  // REQUIRES: the text stays where it is until the feed is closed.
  void start(const char* data, std::size_t size);
  void close() { transport_.reset(); }

 private:
  void written(const Failure& failure) override;
  void go_on();

  std::unique_ptr<DescriptorTransport> transport_;
  const char* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace rille::process
