// rille.core.tls: TLS contexts, and streams that go on in TLS. The functions are raw: they give an
// error first.
#include "tls.h"

#include <algorithm>

#include "host_name.h"
#include "stream.h"

namespace rille::tls {

namespace {

// ---- userdata -----------------------------------------------------------------------------------

struct ContextObject {
  static constexpr char kName[] = "rille.TlsContext";
  std::shared_ptr<Context> context;
};

struct StoreObject {
  static constexpr char kName[] = "rille.TlsStore";
  StorePtr store;
};

// ---- contexts -----------------------------------------------------------------------------------

struct ContextJob {
  Options options;
  std::shared_ptr<Context> context;
  Failure failure;
  const Source* where = nullptr;
};

std::string text_field(lua_State* L, const char* name) {
  lua_getfield(L, 1, name);
  std::size_t size = 0;
  const char* text = lua_tolstring(L, -1, &size);
  std::string value(text ? text : "", size);
  lua_pop(L, 1);
  return value;
}

int number_field(lua_State* L, const char* name, int otherwise) {
  lua_getfield(L, 1, name);
  int value = lua_isnumber(L, -1) ? static_cast<int>(lua_tointeger(L, -1)) : otherwise;
  lua_pop(L, 1);
  return value;
}

bool has_field(lua_State* L, const char* name) {
  lua_getfield(L, 1, name);
  bool has = lua_toboolean(L, -1) != 0;
  lua_pop(L, 1);
  return has;
}

// context(options) -> TlsContext. `options`: ca, cert, key (PEM texts), ca_label, ca_file and so
// on, password, verify (1 or 0), alpn (as on the wire), min_version, max_version (OpenSSL's
// numbers), ciphers, client, server (the sides it is for).
int context(lua_State* L) {
  luaL_checktype(L, 1, LUA_TTABLE);
  auto job = std::make_unique<ContextJob>();
  Options& o = job->options;
  o.ca = {text_field(L, "ca"), text_field(L, "ca_label"), has_field(L, "ca_file")};
  o.certificate = {text_field(L, "cert"), text_field(L, "cert_label"), has_field(L, "cert_file")};
  o.key = {text_field(L, "key"), text_field(L, "key_label"), has_field(L, "key_file")};
  o.password = text_field(L, "password");
  o.has_password = has_field(L, "password");
  o.verify = number_field(L, "verify", -1);
  o.protocols = text_field(L, "alpn");
  o.min_version = number_field(L, "min_version", TLS1_2_VERSION);
  o.max_version = number_field(L, "max_version", 0);
  o.ciphers = text_field(L, "ciphers");
  o.for_client = has_field(L, "client");
  o.for_server = has_field(L, "server");
  return rille_work(
      L,
      [](void* data) {
        auto* j = static_cast<ContextJob*>(data);
        j->context = Context::make(j->options, &j->failure, &j->where);
      },
      [](lua_State* l, void* data) {
        auto* j = static_cast<ContextJob*>(data);
        if (!j->context) {
          j->failure.push(l, "tls", "");
          lua_pushnil(l);
          lua_setfield(l, -2, "address");
          if (j->where && j->where->is_file) {
            lua_pushstring(l, j->where->label.c_str());
            lua_setfield(l, -2, "path");
          }
          return 1;
        }
        lua_pushnil(l);
        Class<ContextObject>::push(l)->context = std::move(j->context);
        return 2;
      },
      [](void* data) { delete static_cast<ContextJob*>(data); }, job.release());
}

// system_store() -> TlsStore
int load_system_store(lua_State* L) {
  auto made = std::make_unique<StorePtr>();
  return rille_work(
      L, [](void* data) { *static_cast<StorePtr*>(data) = system_store(); },
      [](lua_State* l, void* data) {
        lua_pushnil(l);
        Class<StoreObject>::push(l)->store = std::move(*static_cast<StorePtr*>(data));
        return 2;
      },
      [](void* data) { delete static_cast<StorePtr*>(data); }, made.release());
}

// needs_store(context) -> whether a client with it verifies by the system's store; the same for a
// server
int needs_store(lua_State* L) {
  const Context& c = *Class<ContextObject>::check(L, 1)->context;
  lua_pushboolean(L, c.verifies(Side::kClient) && !c.has_ca());
  lua_pushboolean(L, c.verifies(Side::kServer) && !c.has_ca());
  return 2;
}

// verifies(context) -> whether a client with it checks certificates
int verifies(lua_State* L) {
  lua_pushboolean(L, Class<ContextObject>::check(L, 1)->context->verifies(Side::kClient));
  return 1;
}

// has_certificate(context) -> whether it can be a server's
int has_certificate(lua_State* L) {
  lua_pushboolean(L, Class<ContextObject>::check(L, 1)->context->has_certificate());
  return 1;
}

// ---- streams ------------------------------------------------------------------------------------

int push_busy(lua_State* L, Stream* stream) {
  std::string message = "start_tls: another task reads from or writes to " + stream->name();
  rille_push_error(L, "InvalidStateError", nullptr, message.c_str());
  return 1;
}

// prepare(stream, peer): an error unless TLS can start now; and what comes from here on is left to
// the handshake.
int prepare(lua_State* L) {
  Stream* s = check_stream(L, 1, "start_tls");
  const char* peer = luaL_checkstring(L, 2);
  if (s->is_busy()) return push_busy(L, s);
  // Whoever stands between both ends may have put them there (CVE-2011-0411).
  if (s->has_input()) {
    std::string what = "plain bytes came before the TLS handshake, and were not read: ";
    make_failure("UNEXPECTED_PLAINTEXT", what + peer).push(L, "read", peer);
    return 1;
  }
  s->transport()->pause();
  return 0;
}

// Certificates have the names of hosts as the DNS does.
std::string ascii_name(std::string host) {
  bool is_ascii = std::none_of(host.begin(), host.end(),
                               [](char c) { return static_cast<unsigned char>(c) > 127; });
  if (is_ascii) return host;
  return host_name(host).value_or(host);
}

// (stream, context, store, peer [, host, session, limit]): puts TLS around the stream's transport.
// `peer` is what errors call the other end, `limit` are seconds for the handshake.
int start(lua_State* L, Side side) {
  Stream* s = check_stream(L, 1, "start_tls");
  std::shared_ptr<Context> c = Class<ContextObject>::check(L, 2)->context;
  if (!c->of(side)) {
    return luaL_error(L, "this TLS context was made for the other side of a connection");
  }
  if (!lua_isnil(L, 3)) c->use_store(side, Class<StoreObject>::check(L, 3)->store.get());
  Peer peer;
  peer.name = luaL_checkstring(L, 4);
  peer.host = ascii_name(luaL_optstring(L, 5, ""));
  peer.session = luaL_optstring(L, 6, "");
  peer.limit_ms = static_cast<std::uint64_t>(luaL_optnumber(L, 7, 0) * 1000);
  if (s->is_busy()) return push_busy(L, s);
  s->set_transport(make_connection(rille_loop(L), s->release(), std::move(c), side, peer));
  return 0;
}

// client(stream, context, store, peer, host, session): starts the handshake
int client(lua_State* L) { return start(L, Side::kClient); }
// server(stream, context, store, peer, nil, nil, limit)
int server(lua_State* L) { return start(L, Side::kServer); }

Connection* connection_of(Stream* stream) { return dynamic_cast<Connection*>(stream->transport()); }

// handshake(stream): waits until it is done; for a plain stream nothing
int handshake(lua_State* L) {
  Connection* c = connection_of(check_stream(L, 1, "tls"));
  return c ? c->wait_for_handshake(L) : 0;
}

void push_text(lua_State* L, const std::string& text) {
  lua_pushlstring(L, text.data(), text.size());
}

void push_certificate(lua_State* L, X509* x) {
  lua_newtable(L);
  push_text(L, name_text(X509_get_subject_name(x)));
  lua_setfield(L, -2, "subject");
  push_text(L, name_text(X509_get_issuer_name(x)));
  lua_setfield(L, -2, "issuer");
  lua_newtable(L);
  int n = 0;
  for (const std::string& name : names_of(x)) {
    push_text(L, name);
    lua_rawseti(L, -2, ++n);
  }
  lua_setfield(L, -2, "names");
  lua_pushnumber(L, seconds_of(X509_get0_notBefore(x)));
  lua_setfield(L, -2, "not_before");
  lua_pushnumber(L, seconds_of(X509_get0_notAfter(x)));
  lua_setfield(L, -2, "not_after");
}

// info(stream) -> a table, or nil for a plain stream. REQUIRES: the handshake is done.
int info(lua_State* L) {
  Connection* c = connection_of(check_stream(L, 1, "tls"));
  if (!c) return 0;
  SSL* ssl = c->ssl();
  lua_newtable(L);
  lua_pushstring(L, SSL_get_version(ssl));
  lua_setfield(L, -2, "version");
  lua_pushstring(L, SSL_get_cipher_name(ssl));
  lua_setfield(L, -2, "cipher");
  const unsigned char* protocol;
  unsigned size;
  SSL_get0_alpn_selected(ssl, &protocol, &size);
  if (size > 0) {
    lua_pushlstring(L, reinterpret_cast<const char*>(protocol), size);
    lua_setfield(L, -2, "alpn");
  }
  std::string name = c->server_name();
  if (!name.empty()) {
    push_text(L, name);
    lua_setfield(L, -2, "server_name");
  }
  lua_pushboolean(L, SSL_session_reused(ssl));
  lua_setfield(L, -2, "resumed");
  if (X509* peer = SSL_get0_peer_certificate(ssl)) {
    push_certificate(L, peer);
    lua_setfield(L, -2, "peer");
  }
  return 1;
}

const rille_reg kFunctions[] = {{"context", context, 0},
                                {"system_store", load_system_store, 0},
                                {"needs_store", needs_store, 0},
                                {"verifies", verifies, 0},
                                {"has_certificate", has_certificate, 0},
                                {"prepare", prepare, 0},
                                {"client", client, 0},
                                {"server", server, 0},
                                {"handshake", handshake, 0},
                                {"info", info, 0},
                                {nullptr, nullptr, 0}};

const rille_reg kNone[] = {{nullptr, nullptr, 0}};

}  // namespace
}  // namespace rille::tls

extern "C" int luaopen_rille_core_tls(lua_State* L) {
  if (const char* why = rille::tls::load_library()) {
    return luaL_error(L, "TLS needs OpenSSL 3: %s", why);
  }
  rille::Class<rille::tls::ContextObject>::define(L, rille::tls::kNone);
  rille::Class<rille::tls::StoreObject>::define(L, rille::tls::kNone);
  rille_newlib(L, rille::tls::kFunctions);
  return 1;
}
