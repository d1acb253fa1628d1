// rille.core.compress: codings of contents, for HTTP.
#include <rille/builtin.hpp>
#include <rille/module.hpp>

#include "codec.h"

namespace rille::compress {

namespace {

struct DecoderBox {
  static constexpr char kName[] = "rille.Decoder";
  explicit DecoderBox(std::unique_ptr<Decoder> d) : decoder(std::move(d)) {}
  std::unique_ptr<Decoder> decoder;
};

struct EncoderBox {
  static constexpr char kName[] = "rille.Encoder";
  explicit EncoderBox(std::unique_ptr<Encoder> e) : encoder(std::move(e)) {}
  std::unique_ptr<Encoder> encoder;
};

constexpr std::size_t kMost = 262144;  // of what a read gives

std::string_view opt_view(lua_State* L, int index) {
  std::size_t size = 0;
  const char* text = luaL_optlstring(L, index, "", &size);
  return {text, size};
}

// Pushes the object, or nothing and perhaps why its library is not there.
template <class Box, class T>
int push(lua_State* L, std::unique_ptr<T> made, const std::string& error) {
  if (made) {
    Class<Box>::push(L, std::move(made));
    return 1;
  }
  lua_pushnil(L);
  if (error.empty()) return 1;
  lua_pushlstring(L, error.data(), error.size());
  return 2;
}

// decoder(coding) -> decoder, or nil if that is unknown
int decoder(lua_State* L) {
  luaL_checkstring(L, 1);
  std::string error;
  auto made = make_decoder(opt_view(L, 1), &error);
  return push<DecoderBox>(L, std::move(made), error);
}

// decoder:feed(data): nil for the end
int decoder_feed(lua_State* L) {
  Decoder* d = Class<DecoderBox>::check(L, 1)->decoder.get();
  d->feed(opt_view(L, 2), lua_isnoneornil(L, 2));
  return 0;
}

// decoder:read() -> bytes, none if it needs more input or is at its end; or nil, fault
int decoder_read(lua_State* L) {
  Decoder* d = Class<DecoderBox>::check(L, 1)->decoder.get();
  std::string out;
  if (d->read(&out, kMost)) {
    lua_pushlstring(L, out.data(), out.size());
    return 1;
  }
  lua_pushnil(L);
  lua_pushstring(L, d->fault());
  return 2;
}

// encoder(coding [, level]) -> encoder, or nil if that is unknown
int encoder(lua_State* L) {
  luaL_checkstring(L, 1);
  std::string error;
  auto made = make_encoder(opt_view(L, 1), luaL_optint(L, 2, 0), &error);
  return push<EncoderBox>(L, std::move(made), error);
}

int write(lua_State* L, Encoder::Mode mode) {
  Encoder* e = Class<EncoderBox>::check(L, 1)->encoder.get();
  std::string out;
  if (!e->write(opt_view(L, 2), mode, &out)) return raise_out_of_memory(L);
  lua_pushlstring(L, out.data(), out.size());
  return 1;
}

// encoder:write(data) -> what comes out of it now
int encoder_write(lua_State* L) { return write(L, Encoder::Mode::kRun); }

// encoder:flush([data]) -> everything that has not come out yet
int encoder_flush(lua_State* L) { return write(L, Encoder::Mode::kFlush); }

// encoder:finish([data]) -> the same, and the end
int encoder_finish(lua_State* L) { return write(L, Encoder::Mode::kFinish); }

const rille_reg kDecoderMethods[] = {
    {"feed", decoder_feed, 0}, {"read", decoder_read, 0}, {nullptr, nullptr, 0}};
const rille_reg kEncoderMethods[] = {{"write", encoder_write, 0},
                                     {"flush", encoder_flush, 0},
                                     {"finish", encoder_finish, 0},
                                     {nullptr, nullptr, 0}};
const rille_reg kFunctions[] = {
    {"decoder", decoder, 0}, {"encoder", encoder, 0}, {nullptr, nullptr, 0}};

}  // namespace
}  // namespace rille::compress

extern "C" int luaopen_rille_core_compress(lua_State* L) {
  using namespace rille::compress;
  rille::Class<DecoderBox>::define(L, kDecoderMethods);
  rille::Class<EncoderBox>::define(L, kEncoderMethods);
  rille_newlib(L, kFunctions);
  if (kAccepted[0]) {
    lua_pushstring(L, kAccepted + (kAccepted[0] == ',' ? 2 : 0));
    lua_setfield(L, -2, "accepted");
  }
  return 1;
}
