// rille.core.http2_client: connections of HTTP/2 for the client.
#include "http2_client.h"

#include <algorithm>
#include <utility>

#include "http1_grammar.h"
#include "http1_head.h"
#include "http_trailers.h"
#include "stream.h"

namespace rille::http2 {

namespace {

constexpr std::size_t kMostHead = 65536;
constexpr std::size_t kMostFields = 1000;
constexpr int kMostInterim = 100;
constexpr std::size_t kMostUnsent = 65536;
constexpr int kMostFrames = 500;  // that cost the server nothing, in kFramesTime
constexpr std::uint64_t kFramesTime = 10000;
constexpr std::uint64_t kSilence = 2000;

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

// ---- a request ----------------------------------------------------------------------------------

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

// ---- the connection -----------------------------------------------------------------------------

namespace {

Session::Options session_options() {
  Session::Options options;
  options.is_server = false;
  options.stream_window = 1048576;
  options.window = 16777216;
  options.head_bytes = kMostHead;
  return options;
}

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

}  // namespace

// Waits for a place. Belongs to its waiter once that is completed.
struct ClientSession::Place {
  std::shared_ptr<ClientSession> session;
  rille_waiter* waiter = nullptr;
  double ticket = 0;
  bool is_given = false;

  static int push(lua_State* L, void* data) {
    std::unique_ptr<Place> self(static_cast<Place*>(data));
    if (!L) {
      if (self->is_given) self->session->free_place();
      return 0;
    }
    lua_pushnil(L);
    if (!self->is_given) return 1;
    Class<ClientStream>::push(L, self->session);
    return 2;
  }
};

ClientSession::ClientSession(uv_loop_t* loop, std::unique_ptr<Transport> transport,
                             std::string name, std::string scheme, std::uint64_t idle_ms)
    : Session(loop, std::move(transport), session_options()),
      name_(std::move(name)),
      scheme_(std::move(scheme)),
      idle_ms_(idle_ms) {
  linger_ms = 0;
}

int ClientSession::open_stream(lua_State* L, double ticket) {
  if (!is_usable()) return 0;
  idle_since_ = 0;
  if (places_.empty() && has_place()) {
    ++reserved_;
    lua_pushnil(L);
    Class<ClientStream>::push(L, shared_from_this());
    return 2;
  }
  auto place = std::make_unique<Place>();
  place->session = shared_from_this();
  auto give_up = [](rille_waiter* w, void* data) {
    auto* self = static_cast<Place*>(data);
    auto& places = self->session->places_;
    places.erase(std::remove(places.begin(), places.end(), self), places.end());
    rille_complete(w, Place::push, self);
  };
  rille_waiter* waiter = place->waiter = rille_prepare(L, give_up, place.get());
  place->ticket = ticket;
  auto before = places_.end();
  while (before != places_.begin() && (*(before - 1))->ticket > ticket) --before;
  places_.insert(before, place.release());
  return rille_park(L, waiter);
}

void ClientSession::free_place() {
  --reserved_;
  serve();
  note_idle();
}

void ClientSession::serve() {
  while (!places_.empty() && (!is_usable() || has_place())) {
    Place* place = places_.front();
    places_.pop_front();
    place->is_given = is_usable();
    if (place->is_given) ++reserved_;
    rille_complete(place->waiter, Place::push, place);
  }
}

void ClientSession::changed() {
  serve();
  note_idle();
}

void ClientSession::note_idle() {
  if (!is_idle()) {
    idle_since_ = 0;
  } else if (idle_ms_ > 0 && idle_since_ == 0 && is_usable()) {
    idle_since_ = now();
    watch(idle_since_ + idle_ms_);
  }
}

void ClientSession::tick(std::uint64_t before) {
  if (idle_since_ == 0 || !is_idle()) return;
  if (before >= idle_since_ + idle_ms_) return drain();
  watch(std::max(idle_since_ + idle_ms_, now()));
}

bool ClientSession::allow_frame() {
  if (now() - frames_since_ > kFramesTime) {
    frames_since_ = now();
    frames_ = 0;
  }
  if (++frames_ <= kMostFrames) return true;
  fault_ = "the server sent too many frames that say nothing";
  return false;
}

// A server that has closed its side answers no more.
void ClientSession::input_ended(const Failure& failure) {
  failure_ = failure;
  close();
}

void ClientSession::note_request() {
  if (asked_at_ <= heard_at()) asked_at_ = now();
}

void ClientSession::note_loss() {
  if (asked_at_ > heard_at() && now() - asked_at_ >= kSilence) drain();
}

void ClientSession::shut() {
  if (!is_open()) return;
  was_shut_ = true;
  drain();
  flush();
  close();
}

// ---- Lua ----------------------------------------------------------------------------------------

namespace {

ClientStream* check_client_stream(lua_State* L) { return Class<ClientStream>::check(L, 1); }
ClientExchange* check_exchange(lua_State* L) { return check_client_stream(L)->exchange.get(); }

ClientSession* check_session(lua_State* L) {
  return Class<ClientConnection>::check(L, 1)->session.get();
}

// stream:begin(request, has_no_body, most_body, _, more, collects) -> whether it could. `request`
// is the head of HTTP/1 with all of its body; `more`: the body will be sent; `collects`: the
// response's body will be read in one piece
int stream_begin(lua_State* L) {
  ClientStream* s = check_client_stream(L);
  std::size_t size;
  const char* request = luaL_checklstring(L, 2, &size);
  ClientExchange::Options options;
  options.has_no_body = lua_toboolean(L, 3) != 0;
  options.most_body = static_cast<std::uint64_t>(luaL_optnumber(L, 4, 0));
  options.more = lua_toboolean(L, 6) != 0;
  options.collects = lua_toboolean(L, 7) != 0;
  bool begun = false;
  if (std::exchange(s->has_place, false)) {
    s->session->use_place();
    begun = s->exchange->begin(s->session.get(), {request, size}, options);
  }
  lua_pushboolean(L, begun);
  return 1;
}

// stream:send(data)
int stream_send(lua_State* L) {
  ClientExchange* e = check_exchange(L);
  std::size_t size;
  const char* data = luaL_checklstring(L, 2, &size);
  return e->send(L, {data, size});
}

// stream:finish(): the body was sent
int stream_finish(lua_State* L) {
  check_exchange(L)->finish();
  return 0;
}

// The waits are those of rille.core.http1's client.
template <ClientExchange::Want want>
int stream_wait(lua_State* L) {
  return check_exchange(L)->wait(L, want);
}

int stream_trailers(lua_State* L) {
  http1::push_trailers(L, check_exchange(L)->trailers());
  return 1;
}

template <bool (ClientExchange::*tells)() const>
int stream_tells(lua_State* L) {
  lua_pushboolean(L, (check_exchange(L)->*tells)());
  return 1;
}

// stream:is_reusable() -> false: every request has a stream of its own
int stream_is_reusable(lua_State* L) {
  lua_pushboolean(L, 0);
  return 1;
}

// stream:is_open() -> whether its connection is
int stream_is_open(lua_State* L) {
  lua_pushboolean(L, check_client_stream(L)->session->is_open());
  return 1;
}

int stream_close(lua_State* L) {
  check_client_stream(L)->close();
  return 0;
}

using Want = ClientExchange::Want;

const rille_reg kStreamMethods[] = {
    {"begin", stream_begin, 0},
    {"send", stream_send, RILLE_WAITS},
    {"finish", stream_finish, 0},
    {"wait_for_continue", stream_wait<Want::kContinue>, RILLE_WAITS},
    {"read_all", stream_wait<Want::kAll>, RILLE_WAITS},
    {"read_head", stream_wait<Want::kHead>, RILLE_WAITS},
    {"read_body", stream_wait<Want::kBody>, RILLE_WAITS},
    {"read_piece", stream_wait<Want::kPiece>, RILLE_WAITS},
    {"trailers", stream_trailers, 0},
    {"is_reusable", stream_is_reusable, 0},
    {"wants_more", stream_tells<&ClientExchange::wants_more>, 0},
    {"is_untouched", stream_tells<&ClientExchange::is_untouched>, 0},
    {"was_refused", stream_tells<&ClientExchange::was_refused>, 0},
    {"is_open", stream_is_open, 0},
    {"close", stream_close, 0},
    {nullptr, nullptr, 0}};

// connection:open_stream(ticket) -> a stream for one request, as soon as the server allows one
// more; or nothing if the connection takes no more of them. The lowest ticket comes first.
int connection_open_stream(lua_State* L) {
  return check_session(L)->open_stream(L, luaL_checknumber(L, 2));
}

template <auto tells>
int connection_tells(lua_State* L) {
  lua_pushboolean(L, (check_session(L)->*tells)());
  return 1;
}

int connection_close(lua_State* L) {
  check_session(L)->shut();
  return 0;
}

const rille_reg kConnectionMethods[] = {
    {"open_stream", connection_open_stream, RILLE_WAITS},
    {"is_usable", connection_tells<&ClientSession::is_usable>, 0},
    {"is_open", connection_tells<&ClientSession::is_open>, 0},
    {"is_idle", connection_tells<&ClientSession::is_idle>, 0},
    {"close", connection_close, 0},
    {nullptr, nullptr, 0}};

// available() -> whether the library is there; or false and why not
int available(lua_State* L) {
  const char* error = load_library();
  lua_pushboolean(L, error == nullptr);
  lua_pushstring(L, error);
  return 2;
}

// client(stream, scheme, idle_timeout) -> connection. REQUIRES: available()
int make_client(lua_State* L) {
  Stream* stream = check_stream(L, 1, "client");
  const char* scheme = luaL_checkstring(L, 2);
  auto idle = static_cast<std::uint64_t>(luaL_checknumber(L, 3) * 1e3);
  std::string name = stream->name();
  std::string input = stream->take_input();
  auto session = std::make_shared<ClientSession>(rille_loop(L), stream->release(), std::move(name),
                                                 scheme, idle);
  Class<ClientConnection>::push(L, session);
  session->begin(input);
  return 1;
}

const rille_reg kFunctions[] = {
    {"available", available, 0}, {"client", make_client, 0}, {nullptr, nullptr, 0}};

}  // namespace
}  // namespace rille::http2

extern "C" int luaopen_rille_core_http2_client(lua_State* L) {
  using namespace rille::http2;
  rille::Class<ClientStream>::define(L, kStreamMethods);
  rille::Class<ClientConnection>::define(L, kConnectionMethods);
  rille_newlib(L, kFunctions);
  return 1;
}
