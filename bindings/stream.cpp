// rille.core.stream: the class of streams, and how they end.
#include "stream.h"

#include <utility>

#include "linger.h"
#include "stream_methods.h"

namespace rille {

Stream::~Stream() {
  detach();
  forget_readers();
}

std::unique_ptr<Transport> Stream::release() {
  if (reading_) transport_->pause();
  reading_ = false;
  return std::move(transport_);
}

std::unique_ptr<Transport> Stream::detach() {
  std::unique_ptr<Transport> transport;
  if (transport_) transport = release();
  if (transport) transport->stream_closed();
  let_go_of_writes();
  wake_readers();
  return transport;
}

Stream* push_stream(lua_State* L, StreamHandle handle, std::string name, bool accepted) {
  return Class<Stream>::push(L, make_transport(std::move(handle), read_space(L)), std::move(name),
                             accepted);
}

Stream* check_stream(lua_State* L, int index, const char* method) {
  Stream* s = Class<Stream>::check(L, index);
  if (s->is_open()) return s;
  rille_error(L, "InvalidStateError", nullptr, "%s: the stream %s is closed", method,
              s->name().c_str());
  return nullptr;
}

// ---- methods ------------------------------------------------------------------------------------

// stream:shutdown(): tells the peer that nothing follows, once all is written.
int StreamMethods::shutdown(lua_State* L) {
  Stream* s = check_stream(L, 1, "shutdown");
  if (!std::exchange(s->shut_down_, true)) s->transport_->shutdown(nullptr);
  lua_settop(L, 1);
  return 1;
}

int StreamMethods::close(lua_State* L) {
  Stream* s = Class<Stream>::check(L, 1);
  if (s->is_open()) linger(L, s->detach());
  return 0;
}

int StreamMethods::abort(lua_State* L) {
  Stream* s = Class<Stream>::check(L, 1);
  if (!s->is_open()) return 0;
  s->transport_->abort();
  s->detach();
  return 0;
}

int StreamMethods::is_closed(lua_State* L) {
  lua_pushboolean(L, !Class<Stream>::check(L, 1)->is_open());
  return 1;
}

// __gc: what was written goes out even if nobody holds the stream any more.
int StreamMethods::collect(lua_State* L) {
  auto* s = static_cast<Stream*>(lua_touserdata(L, 1));
  Class<Stream>::retire(L);
  if (s->is_open() && s->transport_->pending() > 0) linger(L, s->detach());
  s->~Stream();
  return 0;
}

// stream:name() -> what errors call it
int StreamMethods::name(lua_State* L) {
  Stream* s = Class<Stream>::check(L, 1);
  lua_pushlstring(L, s->name().data(), s->name().size());
  return 1;
}

int StreamMethods::was_accepted(lua_State* L) {
  lua_pushboolean(L, Class<Stream>::check(L, 1)->was_accepted());
  return 1;
}

namespace {

int finish(lua_State* L) {
  finish_lingering(L);
  return 0;
}

const luaL_Reg kRaw[] = {{"read", StreamMethods::read},
                         {"read_exactly", StreamMethods::read_exactly},
                         {"read_until", StreamMethods::read_until},
                         {"read_line", StreamMethods::read_line},
                         {"write", StreamMethods::write}};

const rille_reg kMethods[] = {{"shutdown", StreamMethods::shutdown, 0},
                              {"close", StreamMethods::close, 0},
                              {"abort", StreamMethods::abort, 0},
                              {"is_closed", StreamMethods::is_closed, 0},
                              {"name", StreamMethods::name, 0},
                              {"was_accepted", StreamMethods::was_accepted, 0},
                              {"socket_address", StreamMethods::socket_address, 0},
                              {"peer_address", StreamMethods::peer_address, 0},
                              {"set_nodelay", StreamMethods::set_nodelay, 0},
                              {"set_keepalive", StreamMethods::set_keepalive, 0},
                              {nullptr, nullptr, 0}};

const rille_reg kFunctions[] = {{"finish_lingering", finish, 0}, {nullptr, nullptr, 0}};

}  // namespace

}  // namespace rille

extern "C" int luaopen_rille_core_stream(lua_State* L) {
  rille::define_lingering(L);
  rille::Class<rille::Stream>::define(L, rille::kMethods);
  rille::StreamMethods::define_spares(L);
  rille_newlib(L, rille::kFunctions);
  luaL_getmetatable(L, rille::Stream::kName);
  for (const luaL_Reg& r : rille::kRaw) {
    lua_pushvalue(L, -1);
    lua_pushcclosure(L, r.func, 1);
    lua_setfield(L, -3, r.name);
  }
  lua_pushcfunction(L, rille::StreamMethods::collect);
  lua_setfield(L, -2, "__gc");
  lua_getfield(L, -1, "__index");
  lua_setfield(L, -3, "Stream");
  lua_setfield(L, -2, "metatable");
  return 1;
}
