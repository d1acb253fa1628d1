// Codings of contents: gzip, deflate, br, zstd. Their libraries are loaded when they are first
// used.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace rille::compress {

// What is there in this build, as Accept-Encoding lists it.
extern const char kAccepted[];

// Undoes one coding. Input is fed, output is read in pieces, so that a few bytes which stand for
// many never need much memory at once.
class Decoder {
 public:
  virtual ~Decoder() = default;

  // The next bytes of the coding; it keeps no more than these. `end`: there are no more.
  void feed(std::string_view data, bool end);

  // Appends up to `most` bytes; nothing if it needs more input or has come to its end. False if the
  // input is damaged or cut off: fault().
  bool read(std::string* out, std::size_t most);
  const char* fault() const { return fault_; }

 protected:
  enum class Step { kWantsMore, kEnd, kFault };

  // Decodes from *in into *out, and moves both on.
  virtual Step step(const char** in, std::size_t* in_size, char** out, std::size_t* room) = 0;

  // The coding has ended, more input is there. True if that may be another piece of the same kind.
  virtual bool next_member() { return false; }

 private:
  std::string input_;
  std::size_t used_ = 0;
  const char* fault_ = nullptr;
  bool has_all_ = false;  // of the input
  bool has_ended_ = false;
};

// Codes what is written; the output may come later than its input.
class Encoder {
 public:
  enum class Mode { kRun, kFlush, kFinish };
  virtual ~Encoder() = default;

  // Appends what comes out. False: memory has run out.
  virtual bool write(std::string_view data, Mode mode, std::string* out) = 0;
};

// "message" is the coding of WebSocket's messages: bare deflate data without an end.
// Null for codings that are unknown, or not in this build; with `error` where a library cannot be
// loaded. `level`: the library's own scale; 0 for a quick one.
std::unique_ptr<Decoder> make_decoder(std::string_view coding, std::string* error);
std::unique_ptr<Encoder> make_encoder(std::string_view coding, int level, std::string* error);

}  // namespace rille::compress
