// Frames of WebSocket (RFC 6455, section 5): read by wslay, put together by us.
#pragma once

#include <wslay/wslay.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace rille::websocket {

enum Code {
  kNormal = 1000,
  kProtocolError = 1002,
  kNoStatus = 1005,
  kCutOff = 1006,
  kBadData = 1007,
  kTooBig = 1009,
  kInternalError = 1011,
};

// Whether a code may stand in a close frame: RFC 6455, section 7.4, and IANA's list.
bool may_stand_in_frame(int code);

struct FrameHead {
  bool is_last;  // of its message
  bool is_masked;
  unsigned rsv;  // WSLAY_RSV1_BIT and so on
  unsigned opcode;
  std::uint64_t length;
};

// Takes bytes as they come. A connection that is between two frames costs nothing but this object.
class FrameParser {
 public:
  // What is found. Each gives 0, or the code with which the connection has to be closed.
  class Sink {
   public:
    virtual int frame_begins(const FrameHead& head) = 0;
    virtual int frame_holds(std::string_view data) = 0;
    virtual int frame_ends() = 0;

   protected:
    ~Sink() = default;
  };

  // Returns 0, or the code with which the connection has to be closed. `sink` stops it by a code.
  int feed(std::string_view data, Sink* sink);

 private:
  struct Free {
    void operator()(wslay_frame_context_ptr context) const { wslay_frame_context_free(context); }
  };
  int take(const wslay_frame_iocb& frame, Sink* sink);
  int take_whole(std::string_view frame, Sink* sink);

  std::unique_ptr<wslay_frame_context, Free> context_;  // while a frame is on its way
  std::string_view in_;
  std::uint64_t unread_ = 0;  // bytes that were fed and are not of a frame that has ended
  std::uint64_t left_ = 0;    // of the payload of the frame in hand
  bool is_in_frame_ = false;
};

// Appends a frame that is a whole message.
void append_frame(std::string* out, unsigned opcode, bool is_coded, std::string_view payload,
                  bool is_masked);

// Tells text from other bytes while it comes.
class Utf8Check {
 public:
  // `text` is all that there is so far: at least what it was at the last call.
  bool goes_on(std::string_view text);
  bool ends_well(std::string_view text) { return goes_on(text) && checked_ == text.size(); }
  void reset() { checked_ = 0; }

 private:
  std::size_t checked_ = 0;
};

}  // namespace rille::websocket
