#include "process_capture.h"

#include <algorithm>

namespace rille::process {

// ---- output ------------------------------------------------------------------------------------

void Capture::received(const char* data, std::size_t size) {
  if (end_) return;  // what follows is of no use, but its writer must not wait for ever
  if (data_.size() + size <= fs::kMostBytes && data_.append(data, size)) return;
  end_.status = data_.size() + size > fs::kMostBytes ? UV_EFBIG : UV_ENOMEM;
  data_.release();
  point_.wake();
}

void Capture::ended(const Failure& failure) {
  if (end_) return;
  end_ = failure;
  point_.wake();
}

int Capture::push(lua_State* L) {
  if (end_.status == UV_EOF) return 0;
  rille_push_os_error(L, end_.status, "read", nullptr, nullptr, nullptr);
  return 1;
}

int Capture::wait(lua_State* L) {
  if (end_) return push(L);
  return point_.wait(
      L, [](lua_State* l, void* self) { return l ? static_cast<Capture*>(self)->push(l) : 0; },
      this);
}

void Capture::close() {
  if (!transport_) return;
  // No more than the pipe can hold: somebody may still be writing.
  constexpr int kMostRounds = 64;
  for (int i = 0; i < kMostRounds && !end_; ++i) {
    if (!transport_->receive_now()) break;
  }
  transport_.reset();
}

void Capture::take(lua_State* L) {
  lua_pushlstring(L, data_.data() ? data_.data() : "", data_.size());
  data_.release();
}

// ---- input -------------------------------------------------------------------------------------

namespace {
constexpr std::size_t kPiece = 64 << 10;
constexpr int kMostPieces = 16;  // at a time: others have a turn
}  // namespace

void Feed::start(const char* data, std::size_t size) {
  data_ = data;
  size_ = size;
  go_on();
}

void Feed::go_on() {
  for (int i = 0; i < kMostPieces && size_ > 0; ++i) {
    uv_buf_t buffer;
    buffer.base = const_cast<char*>(data_);
    buffer.len = std::min(size_, kPiece);
    ssize_t n = transport_->try_write(&buffer, 1);
    if (n < 0) return close();
    data_ += n;
    size_ -= static_cast<std::size_t>(n);
    if (n == 0) break;
  }
  if (size_ == 0) return close();
  std::size_t size = std::min(size_, kPiece);
  std::string piece(data_, size);
  data_ += size;
  size_ -= size;
  transport_->write(std::move(piece), this);
}

void Feed::written(const Failure& failure) {
  // Within the transport's callback, or its end.
  if (!transport_ || failure.status == UV_ECANCELED) return;
  if (failure) {
    size_ = 0;
    return close();
  }
  go_on();
}

}  // namespace rille::process
