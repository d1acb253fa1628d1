// Frames of WebSocket: see websocket_frames.h.
#include "websocket_frames.h"

#include <sys/random.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "json_text.h"

namespace rille::websocket {

namespace {

constexpr std::size_t kShort = 126;     // the first length that is written in two bytes
constexpr std::size_t kLong = 1 << 16;  // and in eight
constexpr std::size_t kMaskSize = 4;

std::size_t head_size(std::uint64_t length, bool is_masked) {
  std::size_t size = length < kShort ? 2 : length < kLong ? 4 : 10;
  return size + (is_masked ? kMaskSize : 0);
}

void mask(char* data, std::size_t size, const char* key) {
  std::uint64_t wide = 0;
  for (std::size_t i = 0; i < sizeof wide; i += kMaskSize) {
    std::memcpy(reinterpret_cast<char*>(&wide) + i, key, kMaskSize);
  }
  std::size_t i = 0;
  for (; i + sizeof wide <= size; i += sizeof wide) {
    std::uint64_t word;
    std::memcpy(&word, data + i, sizeof word);
    word ^= wide;
    std::memcpy(data + i, &word, sizeof word);
  }
  for (; i < size; ++i) data[i] = static_cast<char>(data[i] ^ key[i % kMaskSize]);
}

// Of a frame whose head is there and not one of the longest.
std::size_t payload_size(std::string_view frame) {
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>(frame[i]); };
  std::size_t length = byte(1) & 0x7f;
  return length < kShort ? length : static_cast<std::size_t>(byte(2)) << 8 | byte(3);
}

// The size of the frame that `data` begins with, if that is a whole message of less than 64 KiB and
// all of it is there; else 0.
std::size_t whole_frame(std::string_view data) {
  if (data.size() < 4) return 0;
  unsigned opcode = data[0] & 0x0f;
  bool is_last = (data[0] & 0x80) != 0;
  if (!is_last || (opcode != WSLAY_TEXT_FRAME && opcode != WSLAY_BINARY_FRAME)) return 0;
  std::size_t code = data[1] & 0x7f;
  if (code > kShort) return 0;
  std::size_t length = payload_size(data);
  if (code == kShort && length < kShort) return 0;  // not written in the shortest way
  std::size_t size = head_size(length, (data[1] & 0x80) != 0) + length;
  return size <= data.size() ? size : 0;
}

}  // namespace

bool may_stand_in_frame(int code) {
  if (code >= 3000 && code <= 4999) return true;
  return code >= 1000 && code <= 1014 && code != 1004 && code != kNoStatus && code != kCutOff;
}

int FrameParser::feed(std::string_view data, Sink* sink) {
  while (!context_) {
    std::size_t size = whole_frame(data);
    if (size == 0) break;
    if (int code = take_whole(data.substr(0, size), sink)) return code;
    data.remove_prefix(size);
  }
  if (data.empty()) return 0;
  in_ = data;
  unread_ += data.size();
  if (!context_) {
    wslay_frame_callbacks callbacks{};
    callbacks.recv_callback = [](std::uint8_t* buffer, std::size_t size, int, void* self) {
      std::string_view* in = &static_cast<FrameParser*>(self)->in_;
      size = std::min(size, in->size());
      if (size == 0) return static_cast<ssize_t>(-1);
      std::memcpy(buffer, in->data(), size);
      in->remove_prefix(size);
      return static_cast<ssize_t>(size);
    };
    wslay_frame_context_ptr context = nullptr;
    if (wslay_frame_context_init(&context, &callbacks, this) != 0) return kInternalError;
    context_.reset(context);
  }
  for (;;) {
    wslay_frame_iocb frame{};
    ssize_t n = wslay_frame_recv(context_.get(), &frame);
    if (n == WSLAY_ERR_WANT_READ) break;
    int code = n < 0 ? kProtocolError : take(frame, sink);
    if (code != 0) return code;
  }
  in_ = {};
  // Idle connections shall not hold its buffers.
  if (unread_ == 0) context_.reset();
  return 0;
}

// A message in one frame that has come in one piece, as nearly all do, is read without a context:
// to make one costs more than all the rest.
int FrameParser::take_whole(std::string_view frame, Sink* sink) {
  constexpr std::size_t kPiece = 4096;  // a multiple of the mask's size
  unsigned first = static_cast<unsigned char>(frame[0]);
  bool is_masked = (frame[1] & 0x80) != 0;
  std::size_t length = payload_size(frame);
  std::string_view payload = frame.substr(frame.size() - length);
  FrameHead head{true, is_masked, (first >> 4) & 7, first & 15, length};
  if (int code = sink->frame_begins(head)) return code;
  if (!is_masked && length > 0) {
    if (int code = sink->frame_holds(payload)) return code;
  } else {
    const char* key = payload.data() - kMaskSize;
    char piece[kPiece];
    for (; !payload.empty(); payload.remove_prefix(std::min(kPiece, payload.size()))) {
      std::size_t size = std::min(kPiece, payload.size());
      std::memcpy(piece, payload.data(), size);
      mask(piece, size, key);
      if (int code = sink->frame_holds({piece, size})) return code;
    }
  }
  return sink->frame_ends();
}

int FrameParser::take(const wslay_frame_iocb& frame, Sink* sink) {
  if (!is_in_frame_) {
    is_in_frame_ = true;
    left_ = frame.payload_length;
    FrameHead head{frame.fin != 0, frame.mask != 0, frame.rsv, frame.opcode, left_};
    if (int code = sink->frame_begins(head)) return code;
  }
  if (frame.data_length > 0) {
    left_ -= frame.data_length;
    auto* data = reinterpret_cast<const char*>(frame.data);
    if (int code = sink->frame_holds({data, frame.data_length})) return code;
  }
  if (left_ > 0) return 0;
  is_in_frame_ = false;
  unread_ -= head_size(frame.payload_length, frame.mask != 0) + frame.payload_length;
  return sink->frame_ends();
}

void append_frame(std::string* out, unsigned opcode, bool is_coded, std::string_view payload,
                  bool is_masked) {
  std::size_t size = payload.size();
  char head[16];
  std::size_t n = 0;
  head[n++] = static_cast<char>(0x80 | (is_coded ? 0x40 : 0) | opcode);
  std::size_t digits = size < kShort ? 0 : size < kLong ? 2 : 8;
  std::size_t length = digits == 0 ? size : digits == 2 ? kShort : kShort + 1;
  head[n++] = static_cast<char>((is_masked ? 0x80 : 0) | length);
  for (std::size_t i = digits; i-- > 0;) head[n++] = static_cast<char>(size >> (8 * i));
  char key[kMaskSize];
  if (is_masked) {
    // The system's generator gives so few bytes at once, or nothing at all.
    if (getrandom(key, sizeof key, 0) != static_cast<ssize_t>(sizeof key)) throw std::bad_alloc();
    std::memcpy(head + n, key, sizeof key);
    n += sizeof key;
  }
  out->reserve(out->size() + n + size);
  out->append(head, n).append(payload);
  if (is_masked) mask(out->data() + out->size() - size, size, key);
}

bool Utf8Check::goes_on(std::string_view text) {
  std::size_t end = text.size();
  // A sequence that has not ended yet waits for the rest.
  for (std::size_t back = 1; back <= 3 && back <= end - checked_; ++back) {
    auto c = static_cast<unsigned char>(text[end - back]);
    if ((c & 0xc0) == 0x80) continue;
    std::size_t wanted = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
    if (wanted > back) end -= back;
    break;
  }
  if (!json::is_utf8(text.data() + checked_, text.data() + end)) return false;
  checked_ = end;
  return true;
}

}  // namespace rille::websocket
