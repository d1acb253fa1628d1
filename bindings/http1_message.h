// Takes bytes apart into messages of HTTP/1, with llhttp. Knows neither libuv nor Lua.
#pragma once

#include <llhttp.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace rille::http1 {

// What a message may have at most; 0: anything.
struct Limits {
  std::size_t head_bytes = 32768;
  std::size_t headers = 100;
  std::size_t target_bytes = 8192;
  std::uint64_t body_bytes = 16777216;
};

// Cuts a stream of bytes into messages. The grammar is llhttp's, in its strict mode; what llhttp
// lets pass and RFC 9112 does not is refused here, since two programs that read a message in
// different ways are an open door. A message's head is taken in whole.
class Parser {
 public:
  Parser(llhttp_type_t type, const Limits& limits);
  Parser(const Parser&) = delete;
  Parser& operator=(const Parser&) = delete;

  // Takes bytes up to the end of the message; returns how many. None after a failure.
  std::size_t feed(const char* data, std::size_t size);

  // The stream has ended: some responses end with it. False if the message is cut off.
  bool finish();

  // Forgets the message, to begin with the next one.
  void next();

  // Whether anything of the message has come, all of its head, all of it.
  bool has_begun() const { return !head_.empty() && !repeats_; }
  bool has_head() const { return state_ == kBody || state_ == kComplete; }
  bool is_complete() const { return state_ == kComplete; }

  // The message is refused: the status to answer a request with, and what is wrong in words.
  bool has_failed() const { return state_ == kFailed; }
  int refusal() const { return refusal_; }
  const char* fault() const { return fault_; }

  // First line, header fields and the empty line, as they came.
  const std::string& head() const { return head_; }
  std::string& body() { return body_; }
  // What came behind a chunked body: names and values in turn.
  const std::vector<std::string>& trailers() const { return trailers_; }
  std::uint64_t body_received() const { return received_; }

  // Of a message whose head is there.
  bool keep_alive() const { return keep_alive_; }
  bool is_chunked() const { return chunked_; }
  std::uint64_t content_length() const { return length_; }
  bool expects_continue() const { return expects_continue_; }
  bool is_http_1_0() const { return http_1_0_; }
  bool is_head_request() const { return head_request_; }
  int status() const { return llhttp_.status_code; }

  // What this message's body may have at most, in the place of what the limits say; 0: anything.
  // False if it is known to be larger.
  bool limit_body(std::uint64_t bytes);
  // The body's bytes are not kept from here on.
  void discard_body();
  // A response to HEAD has no body, whatever its head says.
  void expect_no_body(bool none = true) { no_body_ = none; }

 private:
  enum State : std::uint8_t { kHead, kBody, kComplete, kFailed };

  bool fail(int status, const char* fault);
  void forget_head();
  std::size_t feed_head(const char* data, std::size_t size);
  std::size_t feed_body(const char* data, std::size_t size);
  bool scan(std::string_view text);
  bool check_size(std::size_t unfinished, std::size_t total);
  bool check_request_line(std::string_view line);
  bool check_status_line(std::string_view line);
  bool check_field(std::string_view line);
  bool check_coding(std::string_view value);
  bool check_length(std::string_view value);
  bool check_fields_together();
  bool check_framing(const char* to);
  std::size_t most_head() const;
  bool fail_head(llhttp_errno_t error);

  static int on_headers_complete(llhttp_t* p);
  static int on_field(llhttp_t* p, const char* text, std::size_t size);
  static int on_value(llhttp_t* p, const char* text, std::size_t size);
  static int on_value_complete(llhttp_t* p);
  void add_trailer(std::string_view text, bool is_value);
  static int on_body(llhttp_t* p, const char* data, std::size_t size);
  static int on_message_complete(llhttp_t* p);
  static const llhttp_settings_t kSettings;

  const Limits& limits_;
  llhttp_t llhttp_;
  llhttp_type_t type_;
  std::string head_;
  std::string body_;
  std::vector<std::string> trailers_;
  std::size_t trailer_bytes_ = 0;
  std::uint64_t body_limit_ = 0;
  std::uint64_t received_ = 0;  // of the body
  std::uint64_t framing_ = 0;   // and with what chunks need besides
  std::uint64_t length_ = 0;
  std::size_t start_ = 0;        // where the message begins, behind empty lines
  std::size_t line_ = 0;         // where the line begins that is being looked at
  std::size_t scanned_ = 0;      // how far
  std::size_t lines_ = 0;        // before it
  const char* piece_ = nullptr;  // of the body, that is looked at
  const char* fault_ = "";
  int refusal_ = 0;
  int blank_lines_ = 0;
  int hosts_ = 0;
  State state_ = kHead;
  char last_byte_ = 0;
  bool keep_alive_ = false;
  bool chunked_ = false;
  bool has_length_ = false;
  bool expects_continue_ = false;
  bool http_1_0_ = false;
  bool head_request_ = false;
  bool no_body_ = false;
  bool discard_ = false;
  bool repeats_ = false;  // nothing has come yet, and head_ is that of the message before
};

}  // namespace rille::http1
