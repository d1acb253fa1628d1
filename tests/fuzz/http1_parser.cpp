// The parser of HTTP/1: the same bytes are the same messages, however they are cut.
#include <string>
#include <vector>

#include "fuzz.h"
#include "http1_message.h"

namespace rille::fuzz {

namespace {

using http1::Limits;
using http1::Parser;

// Of several things that are wrong with a body, the cuts decide which one is seen first.
bool is_of_body(std::string_view fault) {
  for (std::string_view one :
       {"malformed body", "more chunk headers than body", "body too large",
        "too many trailer fields", "trailers too large", "line that does not end with CR LF"}) {
    if (fault == one) return true;
  }
  return false;
}

// What a parser makes of a stream of bytes, as one text.
std::string parse(llhttp_type_t type, const Limits& limits, std::string_view bytes, unsigned seed) {
  Parser parser(type, limits);
  std::string all;
  for (Cutter cutter(bytes, seed); !cutter.is_done();) {
    std::string_view view = cutter.next();
    std::vector<char> piece(view.begin(), view.end());  // so that overruns are seen
    std::size_t used = 0;
    while (used < piece.size()) {
      std::size_t n = parser.feed(piece.data() + used, piece.size() - used);
      if (parser.has_failed()) {
        if (is_of_body(parser.fault())) return all + "malformed body";
        return all + std::to_string(parser.refusal()) + " " + parser.fault();
      }
      used += n;
      if (used > piece.size()) fail("more bytes used than there were");
      if (!parser.is_complete()) {
        if (used < piece.size()) fail("bytes of an unfinished message are left over");
        break;
      }
      bool may_keep = parser.keep_alive();
      all += parser.head() + "|" + parser.body() + "|";
      for (const std::string& text : parser.trailers()) all += text + "|";
      all += may_keep ? "keep\n" : "close\n";
      if (parser.trailers().size() % 2 != 0) fail("a trailer without a value");
      if (parser.body().size() != parser.body_received()) fail("a part of the body is missing");
      bool has_length = type == HTTP_REQUEST && !parser.is_chunked();
      if (has_length && parser.body_received() != parser.content_length()) {
        fail("the body is not as long as was announced");
      }
      parser.next();
    }
  }
  if (!parser.has_begun()) return all;
  if (!parser.has_head()) return all + "part of a head";
  bool ends = parser.finish();
  return all + parser.head() + "|" + parser.body() + (ends ? "|ended" : "|cut off");
}

}  // namespace

// The first byte says what is parsed and with which limits, the second how it is cut.
void parse_http1(std::string_view input) {
  if (input.size() < 2) return;
  auto mode = static_cast<unsigned char>(input[0]);
  auto seed = static_cast<unsigned char>(input[1]);
  std::string_view bytes = input.substr(2);
  llhttp_type_t type = mode & 1 ? HTTP_RESPONSE : HTTP_REQUEST;
  Limits limits;
  if (mode & 2) limits = {200, 5, 50, 40};
  if (mode & 4) limits = {0, 0, 0, 0};
  std::string whole = parse(type, limits, bytes, 0);
  for (unsigned cut : {1U, static_cast<unsigned>(seed)}) {
    std::string got = parse(type, limits, bytes, cut);
    if (got != whole) fail("in one piece:\n" + whole + "\nin pieces:\n" + got);
  }
}

}  // namespace rille::fuzz
