// A request of the HTTP/2 client and its response.
#include <algorithm>
#include <iterator>
#include <utility>

#include "http1_grammar.h"
#include "http1_head.h"
#include "http2_client.h"

namespace rille::http2 {

namespace {

constexpr std::size_t kMostFields = 1000;
constexpr int kMostInterim = 100;
constexpr std::size_t kMostUnsent = 65536;

constexpr const char* kClosedBefore = "the connection was closed before a response came";
constexpr const char* kClosedWithin = "the connection was closed in the middle of the response";

// RFC 9113, section 7.
const char* name_of(std::uint32_t code) {
  static constexpr const char* kNames[] = {"NO_ERROR",
                                           "PROTOCOL_ERROR",
                                           "INTERNAL_ERROR",
                                           "FLOW_CONTROL_ERROR",
                                           "SETTINGS_TIMEOUT",
                                           "STREAM_CLOSED",
                                           "FRAME_SIZE_ERROR",
                                           "REFUSED_STREAM",
                                           "CANCEL",
                                           "COMPRESSION_ERROR",
                                           "CONNECT_ERROR",
                                           "ENHANCE_YOUR_CALM",
                                           "INADEQUATE_SECURITY",
                                           "HTTP_1_1_REQUIRED"};
  return code < std::size(kNames) ? kNames[code] : "an unknown error";
}

// Takes the next line off `text`, without its CR LF.
std::string_view take_line(std::string_view* text) {
  std::size_t end = text->find("\r\n");
  std::string_view line = text->substr(0, end);
  *text = end == text->npos ? std::string_view() : text->substr(end + 2);
  return line;
}

bool starts_with(std::string_view line, std::string_view lower) {
  return http1::equals(line.substr(0, lower.size()), lower);
}

// Fields out of the head of HTTP/1.
Fields fields_of(std::string_view head, const std::string& scheme) {
  std::string_view first = take_line(&head);
  std::size_t method = first.find(' ');
  std::size_t target = first.rfind(' ');
  std::string_view host;
  for (std::string_view rest = head; !rest.empty();) {
    std::string_view line = take_line(&rest);
    if (!starts_with(line, "host:")) continue;
    host = line.substr(5);
    host.remove_prefix(std::min(host.find_first_not_of(' '), host.size()));
    break;
  }
  Fields fields;
  fields.add(":method", first.substr(0, method));
  fields.add(":scheme", scheme);
  if (!host.empty()) fields.add(":authority", host);
  fields.add(":path", first.substr(method + 1, target - method - 1));
  while (!head.empty()) {
    std::string_view line = take_line(&head);
    // What belongs to the connection is left out there.
    if (!starts_with(line, "host:") && !starts_with(line, "te:")) fields.add_lines(line);
  }
  return fields;
}

}  // namespace

bool ClientExchange::begin(ClientSession* session, std::string_view request,
                           const Options& options) {
  std::size_t end = request.find("\r\n\r\n") + 2;
  std::string_view body = request.substr(end + 2);
  Fields fields = fields_of(request.substr(0, end), session->scheme());
  owner_ = session;
  name_ = session->name();
  most_body_ = options.most_body;
  collects_ = options.collects;
  session->note_request();
  if (!session->request(shared_from_this(), &fields, body.empty() && !options.more)) return false;
  if (!body.empty()) Exchange::send(body);
  if (!options.more) finish();
  return true;
}

int ClientExchange::send(lua_State* L, std::string_view data) {
  if (writer_.is_taken()) return luaL_error(L, "another task writes this body");
  // Nobody wants it: what has come instead says why.
  if (!wants_more()) return 0;
  Exchange::send(data);
  if (unsent() <= kMostUnsent) return 0;
  return writer_.wait(
      L, [](lua_State*, void*) { return 0; }, this);
}

void ClientExchange::sent() {
  if (unsent() <= kMostUnsent / 2) writer_.wake();
}

void ClientExchange::close() {
  if (session() && !std::exchange(gave_up_, true)) {
    reset(NGHTTP2_CANCEL);
    owner_->note_loss();
  }
  wake();
  writer_.wake();
}

// ---- its response -------------------------------------------------------------------------------

bool ClientExchange::refuse(const char* fault) {
  if (fault_.empty()) fault_ = fault;
  is_touched_ = true;
  return false;
}

bool ClientExchange::field(std::string_view name, std::string_view value) {
  if (++fields_ > kMostFields) return refuse("too many header fields");
  if (has_head_) {
    trailer_bytes_ += name.size() + value.size() + 4;
    if (trailer_bytes_ > kMostHead) return refuse("trailers too large");
    trailers_.emplace_back(name);
    trailers_.emplace_back(value);
    return true;
  }
  if (name == ":status") {
    for (char c : value) status_ = status_ * 10 + (c - '0');
    return true;
  }
  if (head_.size() + name.size() + value.size() + 4 > kMostHead) return refuse("header too large");
  if (name == "set-cookie") present_ |= 1;
  if (name == "content-encoding") present_ |= 2;
  head_.append(name).append(": ").append(value).append("\r\n");
  return true;
}

bool ClientExchange::head(bool ends) {
  fields_ = 0;
  is_touched_ = true;
  if (!has_head_ && status_ < 200) {
    if (ends || status_ == 101) return refuse("malformed response");
    if (++interim_ > kMostInterim) return refuse("too many interim responses");
    if (status_ == 100) may_go_on_ = true;
    head_.clear();
    status_ = present_ = 0;
    wake();
    return true;
  }
  if (!has_head_) {
    std::string first = "HTTP/2.0 " + std::to_string(status_) + " ";
    first.append(http1::reason(status_)).append("\r\n");
    head_.insert(0, first).append("\r\n");
    has_head_ = true;
  }
  if (ends) is_complete_ = true;
  wake();
  return true;
}

void ClientExchange::data(std::string_view bytes) {
  if (gave_up_ || !fault_.empty()) return;
  received_ += bytes.size();
  if (most_body_ > 0 && received_ > most_body_) {
    fault_ = "body too large";
    reset(NGHTTP2_CANCEL);
    return wake();
  }
  body_.append(bytes);
  if (collects_) {
    give_window(bytes.size());
  } else {
    untaken_ += bytes.size();
    wake();
  }
}

void ClientExchange::ended() {
  is_complete_ = true;
  wake();
  writer_.wake();
}

void ClientExchange::closed(std::uint32_t code) {
  is_closed_ = true;
  if (!is_complete_ && fault_.empty()) {
    bool is_cut = owner_->was_cut();
    if (owner_->was_shut() || gave_up_) {
      gave_up_ = true;
    } else if (code == NGHTTP2_REFUSED_STREAM) {
      was_refused_ = true;
      fault_ = "the server refused the request";
    } else if (is_cut) {
      failure_ = owner_->failure();
      fault_ = is_touched_ ? kClosedWithin : kClosedBefore;
    } else {
      is_touched_ = true;
      fault_ = owner_->fault()      ? owner_->fault()
               : !owner_->is_open() ? "the server broke the rules of HTTP/2"
               : !was_reset()       ? "malformed response"
               : code == NGHTTP2_NO_ERROR
                   ? kClosedWithin
                   : std::string("the server reset the stream: ") + name_of(code);
    }
  }
  owner_ = nullptr;
  wake();
  writer_.wake();
}

bool ClientExchange::is_satisfied() const {
  if (is_over() || gave_up_ || !fault_.empty()) return true;
  switch (want_) {
    case Want::kContinue:
      return may_go_on_ || has_head_;
    case Want::kHead:
      return has_head_;
    case Want::kPiece:
      return !body_.empty();
    case Want::kBody:
    case Want::kAll:
      return false;
  }
  return true;
}

void ClientExchange::wake() {
  if (reader_.is_taken() && is_satisfied()) reader_.wake();
}

int ClientExchange::wait(lua_State* L, Want want) {
  if (reader_.is_taken()) return luaL_error(L, "another task waits for this response");
  want_ = want;
  if (want == Want::kBody || want == Want::kAll) {
    collects_ = true;
    give_window(std::exchange(untaken_, 0));
  }
  if (is_satisfied()) return push(L);
  return reader_.wait(
      L,
      [](lua_State* l, void* self) { return l ? static_cast<ClientExchange*>(self)->push(l) : 0; },
      this);
}

void ClientExchange::push_head(lua_State* L) {
  lua_pushlstring(L, head_.data(), head_.size());
  lua_pushinteger(L, present_ | (is_complete_ && !trailers_.empty() ? 4 : 0));
}

// Pushes nil, nil and what is wrong with the response; or an error.
int ClientExchange::push_fault(lua_State* L) {
  if (gave_up_) {
    std::string message = "the connection to " + name_ + " is closed";
    rille_push_error(L, "InvalidStateError", nullptr, message.c_str());
    return 1;
  }
  if (failure_ && failure_.status != UV_EOF) {
    failure_.push(L, "read", name_);
    return 1;
  }
  lua_pushnil(L);
  lua_pushnil(L);
  lua_pushlstring(L, fault_.data(), fault_.size());
  return 3;
}

int ClientExchange::push(lua_State* L) {
  bool has_piece = want_ == Want::kPiece && !body_.empty();
  bool is_there = want_ == Want::kHead       ? has_head_
                  : want_ == Want::kContinue ? may_go_on_ || has_head_
                                             : is_complete_;
  if (!has_piece && (!is_there || gave_up_ || !fault_.empty())) return push_fault(L);
  lua_pushnil(L);
  switch (want_) {
    case Want::kContinue:
      // One that begins with its answer may still read all of it.
      lua_pushboolean(L, !has_head_ || (status_ < 300 && !is_over()));
      return 2;
    case Want::kHead:
      push_head(L);
      return 3;
    case Want::kAll:
      push_head(L);
      [[fallthrough]];
    case Want::kBody:
      lua_pushlstring(L, body_.data(), body_.size());
      return want_ == Want::kAll ? 4 : 2;
    case Want::kPiece:
      if (!has_piece) {
        lua_pushboolean(L, 0);
        return 2;
      }
      lua_pushlstring(L, body_.data(), body_.size());
      body_.clear();
      give_window(std::exchange(untaken_, 0));
      return 2;
  }
  return 1;
}

}  // namespace rille::http2
