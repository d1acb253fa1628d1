// What comes over a WebSocket: bytes, the frames in them, and the messages in those.
#include <algorithm>
#include <utility>

#include "json_text.h"
#include "websocket_connection.h"

namespace rille::websocket {

namespace {

constexpr std::size_t kMostPending = 1 << 18;  // of pongs that the peer does not take
constexpr int kPeerClosed = -1;                // in the place of a fault's code

const char* what_is_wrong(int code) {
  switch (code) {
    case kTooBig:
      return "the message is too long";
    case kBadData:
      return "the text is not UTF-8";
    case kInternalError:
      return "the message cannot be read";
    default:
      return "the peer broke the protocol";
  }
}

}  // namespace

void WebSocket::go_on_reading() {
  if (is_reading_ || has_ended_ || !transport_) return;
  is_reading_ = true;
  transport_->read(this);
}

void WebSocket::stop_reading() {
  is_reading_ = false;
  transport_->pause();
}

// Nobody else may come by and read on. A pong that nobody has asked for says nothing, and stands
// behind everything else: RFC 6455, section 5.5.3.
void WebSocket::wait_for_drain() {
  if (draining_) return;
  std::string frame;
  append_frame(&frame, WSLAY_PONG, false, {}, !options_.is_server);
  draining_ = new Drain(this);
  transport_->write(std::move(frame), draining_);
}

void WebSocket::received(const char* data, std::size_t size) {
  is_alive_ = true;
  if (is_over()) return;  // what comes behind the end
  int fault = parser_.feed({data, size}, this);
  if (fault != 0 && fault != kPeerClosed) {
    peer_code_ = fault;
    peer_reason_ = is_damaged_ ? "the compressed message is damaged" : what_is_wrong(fault);
    send_close(fault, peer_reason_);
  }
  flush();
  if (!transport_) return;
  if (fault != 0) {
    end_with(peer_code_, std::move(peer_reason_));
  } else if (kept_ > kMostKept) {
    stop_reading();
  } else if (transport_->pending() > kMostPending && !is_closing_) {
    stop_reading();
    wait_for_drain();
  }
  if (!messages_.empty()) point_.wake();
}

void WebSocket::ended(const Failure&) {
  is_reading_ = false;
  has_ended_ = true;
  cut_off();
}

void WebSocket::Drain::written(const Failure&) {
  std::unique_ptr<Drain> self(this);
  if (!socket) return;
  socket->draining_ = nullptr;
  if (socket->kept_ <= kMostKept) socket->go_on_reading();
}

// ---- frames: RFC 6455, section 5 ----------------------------------------------------------------

int WebSocket::frame_begins(const FrameHead& head) {
  head_ = head;
  // Clients mask what they send, servers do not.
  if (head.is_masked != options_.is_server) return kProtocolError;
  bool is_control = wslay_is_ctrl_frame(head.opcode);
  bool goes_on = head.opcode == WSLAY_CONTINUATION_FRAME;
  unsigned allowed = options_.deflates && !is_control && !goes_on ? WSLAY_RSV1_BIT : 0;
  if ((head.rsv & ~allowed) != 0) return kProtocolError;
  if (is_control) {
    control_.clear();
    return head.opcode > WSLAY_PONG ? kProtocolError : 0;
  }
  if (head.opcode > WSLAY_BINARY_FRAME || goes_on != is_in_message_) return kProtocolError;
  if (!goes_on) {
    is_in_message_ = true;
    message_.is_binary = head.opcode == WSLAY_BINARY_FRAME;
    is_coded_ = (head.rsv & WSLAY_RSV1_BIT) != 0;
    utf8_.reset();
  }
  std::uint64_t most = options_.most;
  if (most > 0 && (head.length > most || message_.data.size() > most - head.length)) {
    return kTooBig;
  }
  return 0;
}

int WebSocket::frame_holds(std::string_view data) {
  if (wslay_is_ctrl_frame(head_.opcode)) {
    control_.append(data);
  } else if (!is_closing_) {
    message_.data.append(data);
    if (is_text() && !utf8_.goes_on(message_.data)) return kBadData;
  }
  return 0;
}

int WebSocket::frame_ends() {
  switch (head_.opcode) {
    case WSLAY_PING:
      if (!is_closing_) send_frame(WSLAY_PONG, control_, false);
      return 0;
    case WSLAY_PONG:
      answer(control_);
      return 0;
    case WSLAY_CONNECTION_CLOSE:
      return take_close();
    default:
      if (!head_.is_last) return 0;
      is_in_message_ = false;
      return take_message();
  }
}

int WebSocket::take_close() {
  peer_code_ = kNoStatus;
  if (!control_.empty()) {
    if (control_.size() < 2) return kProtocolError;
    auto byte = [&](int i) { return static_cast<unsigned char>(control_[i]); };
    int code = byte(0) << 8 | byte(1);
    const char* text = control_.data();
    if (!may_stand_in_frame(code)) return kProtocolError;
    if (!json::is_utf8(text + 2, text + control_.size())) return kBadData;
    peer_code_ = code;
    peer_reason_ = control_.substr(2);
  }
  send_close(peer_code_, peer_reason_);
  return kPeerClosed;
}

int WebSocket::take_message() {
  Message m = std::exchange(message_, {});
  if (is_closing_) return 0;
  if (is_coded_) {
    Message coded{std::move(m.data), m.is_binary};
    m.data.clear();
    if (int code = inflate(coded.data, &m.data)) return code;
    const char* text = m.data.data();
    if (!m.is_binary && !json::is_utf8(text, text + m.data.size())) return kBadData;
  } else if (!m.is_binary && !utf8_.ends_well(m.data)) {
    return kBadData;
  }
  kept_ += m.data.size() + kMessageCost;
  messages_.push_back(std::move(m));
  return 0;
}

int WebSocket::inflate(std::string_view data, std::string* out) {
  constexpr std::string_view kTail("\0\0\xff\xff", 4);
  std::string error;
  if (!decoder_) decoder_ = compress::make_decoder("message", &error);
  if (!decoder_) return kInternalError;
  decoder_->feed(data, false);
  decoder_->feed(kTail, false);
  for (;;) {
    std::size_t before = out->size();
    is_damaged_ = !decoder_->read(out, 65536);
    if (is_damaged_) return kBadData;
    if (out->size() == before) break;
    if (options_.most > 0 && out->size() > options_.most) return kTooBig;
  }
  if (!options_.keeps_history) decoder_.reset();
  return 0;
}

// A pong answers its ping and all before it: RFC 6455, section 5.5.3.
void WebSocket::answer(std::string_view payload) {
  auto is_asked = [&](Waiting* w) { return w->is_ping && w->payload == payload; };
  auto it = std::find_if(waiting_.begin(), waiting_.end(), is_asked);
  if (it == waiting_.end()) return;
  auto last = static_cast<std::size_t>(it - waiting_.begin());
  std::vector<Waiting*> left;
  std::vector<Waiting*> answered;
  for (std::size_t i = 0; i < waiting_.size(); ++i) {
    (waiting_[i]->is_ping && i <= last ? answered : left).push_back(waiting_[i]);
  }
  waiting_ = left;
  for (Waiting* w : answered) {
    w->ended = uv_hrtime();
    rille_complete(w->waiter, Waiting::push, w);
  }
}

}  // namespace rille::websocket
