// A connection of the HTTP/2 client: who may open a stream on it, and when it is given up.
#include <algorithm>
#include <utility>

#include "http2_client.h"

namespace rille::http2 {

namespace {

constexpr int kMostFrames = 500;  // that cost the server nothing, in kFramesTime
constexpr std::uint64_t kFramesTime = 10000;
constexpr std::uint64_t kSilence = 2000;

Session::Options session_options() {
  Session::Options options;
  options.is_server = false;
  options.stream_window = 1048576;
  options.window = 16777216;
  options.head_bytes = kMostHead;
  return options;
}

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

}  // namespace rille::http2
