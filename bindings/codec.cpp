#include "codec.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <new>

#ifdef RILLE_HAS_ZLIB
#include <zlib.h>
#endif
#ifdef RILLE_HAS_BROTLI
#include <brotli/decode.h>
#include <brotli/encode.h>
#endif
#ifdef RILLE_HAS_ZSTD
#include <zstd.h>
#endif

namespace rille::compress {

const char kAccepted[] =
#ifdef RILLE_HAS_ZLIB
    "gzip, deflate"
#endif
#ifdef RILLE_HAS_BROTLI
    ", br"
#endif
#ifdef RILLE_HAS_ZSTD
    ", zstd"
#endif
    ;

// ---- decoding -----------------------------------------------------------------------------------

void Decoder::feed(std::string_view data, bool end) {
  input_.erase(0, used_);
  used_ = 0;
  input_.append(data);
  has_all_ = has_all_ || end;
}

bool Decoder::read(std::string* out, std::size_t most) {
  if (fault_) return false;
  std::size_t before = out->size();
  std::size_t room = most;
  while (room > 0) {
    const char* in = input_.data() + used_;
    std::size_t in_size = input_.size() - used_;
    if (has_ended_) {
      if (in_size == 0) break;
      if (!next_member()) {
        fault_ = "there is something behind the end of the compressed body";
        return false;
      }
      has_ended_ = false;
    }
    std::size_t made = out->size();
    out->resize(made + room);
    char* to = out->data() + made;
    std::size_t in_before = in_size;
    std::size_t room_before = room;
    Step result = step(&in, &in_size, &to, &room);
    used_ += in_before - in_size;
    out->resize(out->size() - room);
    if (result == Step::kFault) {
      fault_ = "the compressed body is damaged";
      return false;
    }
    has_ended_ = result == Step::kEnd;
    if (!has_ended_ && room == room_before && in_size == in_before) break;
  }
  bool is_stuck = out->size() == before && !has_ended_ && used_ == input_.size();
  if (has_all_ && is_stuck && most > 0) {
    fault_ = "the compressed body is cut off";
    return false;
  }
  return true;
}

namespace {

// A library, opened for good.
class Library {
 public:
  explicit Library(const char* name) : file_(dlopen(name, RTLD_NOW | RTLD_LOCAL)) {
    if (!file_) error_ = dlerror();
  }
  template <class F>
  void load(F** function, const char* name) {
    if (!error_.empty()) return;
    *function = reinterpret_cast<F*>(dlsym(file_, name));
    if (!*function) error_ = dlerror();
  }
  const std::string& error() const { return error_; }

 private:
  void* file_;
  std::string error_;
};

constexpr std::size_t kPiece = 16384;

#ifdef RILLE_HAS_ZLIB

struct Zlib : Library {
  decltype(&::inflateInit2_) inflate_init;
  decltype(&::inflate) inflate;
  decltype(&::inflateReset2) inflate_reset;
  decltype(&::inflateEnd) inflate_end;
  decltype(&::deflateInit2_) deflate_init;
  decltype(&::deflate) deflate;
  decltype(&::deflateEnd) deflate_end;

  Zlib() : Library("libz.so.1") {
    load(&inflate_init, "inflateInit2_");
    load(&inflate, "inflate");
    load(&inflate_reset, "inflateReset2");
    load(&inflate_end, "inflateEnd");
    load(&deflate_init, "deflateInit2_");
    load(&deflate, "deflate");
    load(&deflate_end, "deflateEnd");
  }
  static const Zlib& get() {
    static const Zlib library;
    return library;
  }
};

constexpr int kGzip = 16;
enum class Wrapping { kGzip, kZlib, kNone };
constexpr unsigned kMostAtOnce = 1u << 30;

class Inflate final : public Decoder {
 public:
  explicit Inflate(Wrapping wrapping)
      : is_gzip_(wrapping == Wrapping::kGzip), has_begun_(wrapping == Wrapping::kNone) {
    int bits = is_gzip_ ? MAX_WBITS + kGzip : wrapping == Wrapping::kNone ? -MAX_WBITS : MAX_WBITS;
    if (Zlib::get().inflate_init(&z_, bits, ZLIB_VERSION, sizeof z_) != Z_OK) {
      throw std::bad_alloc();
    }
  }
  ~Inflate() override { Zlib::get().inflate_end(&z_); }

 protected:
  Step step(const char** in, std::size_t* in_size, char** out, std::size_t* room) override {
    // Some servers send bare deflate data for `deflate`, without zlib's two bytes before it.
    if (!is_gzip_ && !has_begun_ && *in_size > 0 && (**in & 0x0f) != 8) {
      Zlib::get().inflate_reset(&z_, -MAX_WBITS);
    }
    has_begun_ = has_begun_ || *in_size > 0;
    z_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(*in));
    z_.avail_in = static_cast<unsigned>(std::min<std::size_t>(*in_size, kMostAtOnce));
    z_.next_out = reinterpret_cast<Bytef*>(*out);
    z_.avail_out = static_cast<unsigned>(std::min<std::size_t>(*room, kMostAtOnce));
    unsigned in_before = z_.avail_in;
    unsigned out_before = z_.avail_out;
    int rc = Zlib::get().inflate(&z_, Z_NO_FLUSH);
    *in += in_before - z_.avail_in;
    *in_size -= in_before - z_.avail_in;
    *out += out_before - z_.avail_out;
    *room -= out_before - z_.avail_out;
    if (rc == Z_STREAM_END) return Step::kEnd;
    return rc == Z_OK || rc == Z_BUF_ERROR ? Step::kWantsMore : Step::kFault;
  }

  // A gzip file may have several members: RFC 1952, section 2.2.
  bool next_member() override {
    return is_gzip_ && Zlib::get().inflate_reset(&z_, MAX_WBITS + kGzip) == Z_OK;
  }

 private:
  z_stream z_{};
  bool is_gzip_;
  bool has_begun_;
};

class Deflate final : public Encoder {
 public:
  Deflate(Wrapping wrapping, int level) {
    // Messages are short and many: their window is one of 4 KiB.
    constexpr int kSmallWindow = 12;
    bool is_message = wrapping == Wrapping::kNone;
    int memory = is_message ? 5 : 8;
    int bits = is_message ? -kSmallWindow : MAX_WBITS + (wrapping == Wrapping::kGzip ? kGzip : 0);
    if (Zlib::get().deflate_init(&z_, level, Z_DEFLATED, bits, memory, Z_DEFAULT_STRATEGY,
                                 ZLIB_VERSION, sizeof z_) != Z_OK) {
      throw std::bad_alloc();
    }
  }
  ~Deflate() override { Zlib::get().deflate_end(&z_); }

  bool write(std::string_view data, Mode mode, std::string* out) override {
    int flush = mode == Mode::kFinish ? Z_FINISH : mode == Mode::kFlush ? Z_SYNC_FLUSH : Z_NO_FLUSH;
    do {
      std::string_view part = data.substr(0, kMostAtOnce);
      data.remove_prefix(part.size());
      z_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(part.data()));
      z_.avail_in = static_cast<unsigned>(part.size());
      do {
        std::size_t made = out->size();
        out->resize(made + kPiece);
        z_.next_out = reinterpret_cast<Bytef*>(out->data() + made);
        z_.avail_out = kPiece;
        int rc = Zlib::get().deflate(&z_, data.empty() ? flush : Z_NO_FLUSH);
        out->resize(out->size() - z_.avail_out);
        if (rc == Z_STREAM_ERROR) return false;
      } while (z_.avail_out == 0);
    } while (!data.empty());
    return true;
  }

 private:
  z_stream z_{};
};

#endif

#ifdef RILLE_HAS_BROTLI

struct Brotli {
  Library decoding{"libbrotlidec.so.1"};
  decltype(&::BrotliDecoderCreateInstance) make_decoder;
  decltype(&::BrotliDecoderDestroyInstance) free_decoder;
  decltype(&::BrotliDecoderDecompressStream) decode;
  Library encoding{"libbrotlienc.so.1"};
  decltype(&::BrotliEncoderCreateInstance) make_encoder;
  decltype(&::BrotliEncoderDestroyInstance) free_encoder;
  decltype(&::BrotliEncoderSetParameter) set;
  decltype(&::BrotliEncoderCompressStream) encode;
  decltype(&::BrotliEncoderHasMoreOutput) has_more;

  Brotli() {
    decoding.load(&make_decoder, "BrotliDecoderCreateInstance");
    decoding.load(&free_decoder, "BrotliDecoderDestroyInstance");
    decoding.load(&decode, "BrotliDecoderDecompressStream");
    encoding.load(&make_encoder, "BrotliEncoderCreateInstance");
    encoding.load(&free_encoder, "BrotliEncoderDestroyInstance");
    encoding.load(&set, "BrotliEncoderSetParameter");
    encoding.load(&encode, "BrotliEncoderCompressStream");
    encoding.load(&has_more, "BrotliEncoderHasMoreOutput");
  }
  static const Brotli& get() {
    static const Brotli library;
    return library;
  }
};

class BrotliDecoder final : public Decoder {
 public:
  BrotliDecoder() : state_(Brotli::get().make_decoder(nullptr, nullptr, nullptr)) {
    if (!state_) throw std::bad_alloc();
  }
  ~BrotliDecoder() override { Brotli::get().free_decoder(state_); }

 protected:
  Step step(const char** in, std::size_t* in_size, char** out, std::size_t* room) override {
    auto* from = reinterpret_cast<const std::uint8_t*>(*in);
    auto* to = reinterpret_cast<std::uint8_t*>(*out);
    auto result = Brotli::get().decode(state_, in_size, &from, room, &to, nullptr);
    *in = reinterpret_cast<const char*>(from);
    *out = reinterpret_cast<char*>(to);
    if (result == BROTLI_DECODER_RESULT_SUCCESS) return Step::kEnd;
    return result == BROTLI_DECODER_RESULT_ERROR ? Step::kFault : Step::kWantsMore;
  }

 private:
  BrotliDecoderState* state_;
};

class BrotliEncoder final : public Encoder {
 public:
  explicit BrotliEncoder(int level)
      : state_(Brotli::get().make_encoder(nullptr, nullptr, nullptr)) {
    constexpr std::uint32_t kWindow = 18;  // 256 KiB: much more than a response mostly has
    if (!state_) throw std::bad_alloc();
    Brotli::get().set(state_, BROTLI_PARAM_QUALITY, static_cast<std::uint32_t>(level));
    Brotli::get().set(state_, BROTLI_PARAM_LGWIN, kWindow);
  }
  ~BrotliEncoder() override { Brotli::get().free_encoder(state_); }

  bool write(std::string_view data, Mode mode, std::string* out) override {
    auto operation = mode == Mode::kFinish  ? BROTLI_OPERATION_FINISH
                     : mode == Mode::kFlush ? BROTLI_OPERATION_FLUSH
                                            : BROTLI_OPERATION_PROCESS;
    auto* from = reinterpret_cast<const std::uint8_t*>(data.data());
    std::size_t left = data.size();
    do {
      std::size_t made = out->size();
      out->resize(made + kPiece);
      auto* to = reinterpret_cast<std::uint8_t*>(out->data() + made);
      std::size_t room = kPiece;
      bool ok = Brotli::get().encode(state_, operation, &left, &from, &room, &to, nullptr) != 0;
      out->resize(out->size() - room);
      if (!ok) return false;
    } while (left > 0 || Brotli::get().has_more(state_));
    return true;
  }

 private:
  BrotliEncoderState* state_;
};

#endif

#ifdef RILLE_HAS_ZSTD

struct Zstd : Library {
  decltype(&::ZSTD_createDCtx) make_decoder;
  decltype(&::ZSTD_freeDCtx) free_decoder;
  decltype(&::ZSTD_DCtx_setParameter) set_decoder;
  decltype(&::ZSTD_decompressStream) decode;
  decltype(&::ZSTD_createCCtx) make_encoder;
  decltype(&::ZSTD_freeCCtx) free_encoder;
  decltype(&::ZSTD_CCtx_setParameter) set_encoder;
  decltype(&::ZSTD_compressStream2) encode;
  decltype(&::ZSTD_isError) is_error;

  Zstd() : Library("libzstd.so.1") {
    load(&make_decoder, "ZSTD_createDCtx");
    load(&free_decoder, "ZSTD_freeDCtx");
    load(&set_decoder, "ZSTD_DCtx_setParameter");
    load(&decode, "ZSTD_decompressStream");
    load(&make_encoder, "ZSTD_createCCtx");
    load(&free_encoder, "ZSTD_freeCCtx");
    load(&set_encoder, "ZSTD_CCtx_setParameter");
    load(&encode, "ZSTD_compressStream2");
    load(&is_error, "ZSTD_isError");
  }
  static const Zstd& get() {
    static const Zstd library;
    return library;
  }
};

class ZstdDecoder final : public Decoder {
 public:
  ZstdDecoder() : state_(Zstd::get().make_decoder()) {
    constexpr int kWindow = 23;  // 8 MiB, which RFC 9659 has senders keep to
    if (!state_) throw std::bad_alloc();
    Zstd::get().set_decoder(state_, ZSTD_d_windowLogMax, kWindow);
  }
  ~ZstdDecoder() override { Zstd::get().free_decoder(state_); }

 protected:
  Step step(const char** in, std::size_t* in_size, char** out, std::size_t* room) override {
    ZSTD_inBuffer from{*in, *in_size, 0};
    ZSTD_outBuffer to{*out, *room, 0};
    std::size_t result = Zstd::get().decode(state_, &to, &from);
    *in += from.pos;
    *in_size -= from.pos;
    *out += to.pos;
    *room -= to.pos;
    if (Zstd::get().is_error(result)) return Step::kFault;
    return result == 0 ? Step::kEnd : Step::kWantsMore;
  }

  // Frames may follow one another: RFC 8878, section 3.1.
  bool next_member() override { return true; }

 private:
  ZSTD_DCtx* state_;
};

class ZstdEncoder final : public Encoder {
 public:
  explicit ZstdEncoder(int level) : state_(Zstd::get().make_encoder()) {
    constexpr int kWindow = 20;
    if (!state_) throw std::bad_alloc();
    Zstd::get().set_encoder(state_, ZSTD_c_compressionLevel, level);
    Zstd::get().set_encoder(state_, ZSTD_c_windowLog, kWindow);
  }
  ~ZstdEncoder() override { Zstd::get().free_encoder(state_); }

  bool write(std::string_view data, Mode mode, std::string* out) override {
    auto operation = mode == Mode::kFinish  ? ZSTD_e_end
                     : mode == Mode::kFlush ? ZSTD_e_flush
                                            : ZSTD_e_continue;
    ZSTD_inBuffer from{data.data(), data.size(), 0};
    std::size_t left;
    do {
      std::size_t made = out->size();
      out->resize(made + kPiece);
      ZSTD_outBuffer to{out->data() + made, kPiece, 0};
      left = Zstd::get().encode(state_, &to, &from, operation);
      out->resize(made + to.pos);
      if (Zstd::get().is_error(left)) return false;
    } while (operation == ZSTD_e_continue ? from.pos < from.size : left > 0);
    return true;
  }

 private:
  ZSTD_CCtx* state_;
};

#endif

// The quick levels, which cost about as much time as they save of a fast line.
[[maybe_unused]] int level_or(int level, int standard, int most) {
  return level == 0 ? standard : std::clamp(level, 1, most);
}

template <class T, class Made, class... Args>
std::unique_ptr<T> make(const std::string& missing, std::string* error, Args... args) {
  if (missing.empty()) return std::make_unique<Made>(args...);
  *error = missing;
  return nullptr;
}

}  // namespace

std::unique_ptr<Decoder> make_decoder([[maybe_unused]] std::string_view coding,
                                      [[maybe_unused]] std::string* error) {
#ifdef RILLE_HAS_ZLIB
  if (coding == "gzip" || coding == "x-gzip" || coding == "deflate") {
    auto wrapping = coding == "deflate" ? Wrapping::kZlib : Wrapping::kGzip;
    return make<Decoder, Inflate>(Zlib::get().error(), error, wrapping);
  }
  if (coding == "message") {
    return make<Decoder, Inflate>(Zlib::get().error(), error, Wrapping::kNone);
  }
#endif
#ifdef RILLE_HAS_BROTLI
  if (coding == "br") return make<Decoder, BrotliDecoder>(Brotli::get().decoding.error(), error);
#endif
#ifdef RILLE_HAS_ZSTD
  if (coding == "zstd") return make<Decoder, ZstdDecoder>(Zstd::get().error(), error);
#endif
  return nullptr;
}

std::unique_ptr<Encoder> make_encoder([[maybe_unused]] std::string_view coding,
                                      [[maybe_unused]] int level,
                                      [[maybe_unused]] std::string* error) {
#ifdef RILLE_HAS_ZLIB
  if (coding == "gzip" || coding == "deflate" || coding == "message") {
    auto wrapping = coding == "gzip"      ? Wrapping::kGzip
                    : coding == "deflate" ? Wrapping::kZlib
                                          : Wrapping::kNone;
    return make<Encoder, Deflate>(Zlib::get().error(), error, wrapping, level_or(level, 4, 9));
  }
#endif
#ifdef RILLE_HAS_BROTLI
  if (coding == "br") {
    return make<Encoder, BrotliEncoder>(Brotli::get().encoding.error(), error,
                                        level_or(level, 4, 11));
  }
#endif
#ifdef RILLE_HAS_ZSTD
  if (coding == "zstd") {
    return make<Encoder, ZstdEncoder>(Zstd::get().error(), error, level_or(level, 3, 19));
  }
#endif
  return nullptr;
}

}  // namespace rille::compress
