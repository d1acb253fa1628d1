// The parser of HTTP/1 however its bytes are cut, and the lifetime of connections.
#include <random>
#include <string>
#include <vector>

#include "../../bindings/http1_head.h"
#include "../../bindings/http1_message.h"
#include "support/runtime_fixture.hpp"

using rille::http1::DateField;
using rille::http1::Limits;
using rille::http1::Parser;

namespace {

// What a parser made of its bytes, as one text.
std::string result(Parser* parser) {
  if (parser->has_failed()) {
    return std::to_string(parser->refusal()) + " " + parser->fault();
  }
  if (!parser->is_complete()) return parser->has_head() ? "head" : "part";
  return parser->head() + "|" + parser->body() + (parser->keep_alive() ? "|keep" : "|close");
}

// Feeds bytes in pieces of the given sizes, the last one again and again. Adds what each message
// became.
std::string parse(llhttp_type_t type, const std::string& bytes, std::vector<std::size_t> sizes,
                  const Limits& limits = Limits()) {
  Parser parser(type, limits);
  std::string all;
  std::size_t at = 0, n = 0;
  while (at < bytes.size()) {
    std::size_t size = std::min(sizes[std::min(n++, sizes.size() - 1)], bytes.size() - at);
    // A piece may hold the end of one message and the beginning of the next.
    std::string piece = bytes.substr(at, size);  // a block of its own, so that overruns are seen
    std::size_t used = 0;
    while (used < piece.size()) {
      used += parser.feed(piece.data() + used, piece.size() - used);
      if (parser.has_failed()) return all + result(&parser);
      if (!parser.is_complete()) continue;
      all += result(&parser) + "\n";
      parser.next();
    }
    at += size;
  }
  if (parser.has_begun()) all += result(&parser);
  return all;
}

void check_all_cuts(llhttp_type_t type, const std::string& bytes) {
  std::string whole = parse(type, bytes, {bytes.size()});
  INFO(bytes);
  CHECK(parse(type, bytes, {1}) == whole);
  for (std::size_t first = 1; first < bytes.size(); ++first) {
    if (parse(type, bytes, {first, bytes.size()}) != whole) {
      INFO("first piece of " << first);
      CHECK(parse(type, bytes, {first, bytes.size()}) == whole);
    }
  }
  for (std::size_t size = 2; size < 10; ++size) CHECK(parse(type, bytes, {size}) == whole);
}

const char* const kRequests[] = {
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\nHost: "
    "b\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
    "chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n"
    "A: b\r\n\r\nDELETE /%C3%A4 HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n",
    "GET / HTTP/1.1\r\nHost: a\n\r\n",
    "GET / HTTP/1.1\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nA\rB: c\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nB: c\r\n d\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n",
    "BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
};

const char* const kResponses[] = {
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\n\r\nto the end",
    "HTTP/1.1 2x0 OK\r\n\r\n",
};

}  // namespace

TEST_CASE("a message is the same however its bytes are cut") {
  for (const char* bytes : kRequests) check_all_cuts(HTTP_REQUEST, bytes);
  for (const char* bytes : kResponses) check_all_cuts(HTTP_RESPONSE, bytes);
}

TEST_CASE("messages come out as they went in") {
  CHECK(parse(HTTP_REQUEST, kRequests[2], {1000}) ==
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n|hello|keep\n"
        "GET /2 HTTP/1.1\r\nHost: b\r\n\r\n||keep\n");
  CHECK(parse(HTTP_REQUEST, kRequests[1], {1000}) ==
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n||keep\nGET /2 HTTP/1.0\r\n\r\n||close\n");
  CHECK(parse(HTTP_REQUEST, kRequests[4], {1000}) == "400 line that does not end with CR LF");
}

TEST_CASE("limits hold to the byte, and before what is beyond them has come") {
  std::string head = "GET / HTTP/1.1\r\nHost: a\r\nA: bcd\r\n\r\n";
  Limits limits;
  for (std::size_t piece : {head.size(), std::size_t{1}}) {
    limits.head_bytes = head.size();
    CHECK(parse(HTTP_REQUEST, head, {piece}, limits) == head + "||keep\n");
    limits.head_bytes = head.size() - 1;
    CHECK(parse(HTTP_REQUEST, head, {piece}, limits) == "431 header too large");
  }
  limits = Limits();
  limits.headers = 2;
  CHECK(parse(HTTP_REQUEST, head, {1}, limits) == head + "||keep\n");
  limits.headers = 1;
  CHECK(parse(HTTP_REQUEST, head, {1}, limits) == "431 too many header fields");
  limits = Limits();
  limits.body_bytes = 5;
  std::string chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  CHECK(parse(HTTP_REQUEST, chunked + "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", {1}, limits) ==
        chunked + "|abcde|keep\n");
  CHECK(parse(HTTP_REQUEST, chunked + "3\r\nabc\r\n3\r\ndef", {1}, limits) == "413 body too large");
}

TEST_CASE("chunk headers and trailers cannot go on for ever") {
  std::string chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  std::string endless(100000, 'x');
  for (std::size_t piece : {std::size_t{1000}, std::size_t{1000000}}) {
    CHECK(parse(HTTP_REQUEST, chunked + "5;" + endless, {piece}) ==
          "400 more chunk headers than body");
    CHECK(parse(HTTP_REQUEST, chunked + "0\r\nA: " + endless, {piece}) == "431 trailers too large");
  }
  // Nor does one that goes before.
  std::string long_body = chunked + "186a0\r\n" + endless + "\r\n0\r\nA: " + endless + "\r\n\r\n";
  for (std::size_t piece : {std::size_t{1000}, long_body.size()}) {
    CHECK(parse(HTTP_REQUEST, long_body, {piece}) == "431 trailers too large");
  }
  // A body that follows does not make up for it, whether it comes at once or later.
  std::string late = chunked + "186a0;" + endless + "\r\n" + endless + "\r\n0\r\n\r\n";
  for (std::size_t piece : {std::size_t{1000}, late.size()}) {
    CHECK(parse(HTTP_REQUEST, late, {piece}) == "400 more chunk headers than body");
  }
  std::string small;
  for (int i = 0; i < 100000; ++i) small += "1\r\nx\r\n";
  CHECK(parse(HTTP_REQUEST, chunked + small + "0\r\n\r\n", {1000}) ==
        chunked + "|" + endless + "|keep\n");
}

TEST_CASE("the end of the stream ends some responses and cuts off others") {
  auto finish = [](const std::string& bytes) {
    Limits limits;
    Parser parser(HTTP_RESPONSE, limits);
    parser.feed(bytes.data(), bytes.size());
    return parser.finish();
  };
  CHECK(finish("HTTP/1.1 200 OK\r\n\r\nanything"));
  CHECK(finish("HTTP/1.1 200 OK\r\n\r\n"));
  CHECK(finish("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"));
  CHECK_FALSE(finish("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx"));
  CHECK_FALSE(finish("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"));
  CHECK_FALSE(finish("HTTP/1.1 200 OK\r\n"));
  CHECK_FALSE(finish(""));
}

TEST_CASE("random bytes, and good ones with random faults, are refused or taken, and no more") {
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = kRequests[random() % std::size(kRequests)];
    for (unsigned n = random() % 4; n > 0; --n) {
      std::size_t at = random() % bytes.size();
      switch (random() % 3) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes.erase(at, 1 + random() % 3);
          break;
        default:
          bytes.insert(at, 1, "\r\n :;,0aZ\0"[random() % 10]);
          break;
      }
      if (bytes.empty()) bytes.push_back('x');
    }
    std::string whole = parse(HTTP_REQUEST, bytes, {bytes.size()});
    std::string cut = parse(HTTP_REQUEST, bytes, {1 + random() % 7});
    if (whole != cut) {
      INFO(bytes);
      CHECK(cut == whole);
    }
  }
}

TEST_CASE("the date is that of RFC 9110, and made once a second") {
  DateField date;
  std::string text(date.text());
  CHECK(text.size() == std::string("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n").size());
  CHECK(text.substr(text.size() - 6) == " GMT\r\n");
  CHECK(date.text().data() == date.text().data());
}

TEST_CASE_METHOD(RuntimeFixture, "a server that nobody closes goes with the program", "[http]") {
  run(R"lua(
    local async, http = require "rille.async", require "rille.http"
    local server = http.serve { handler = function() async.sleep(1000) end }
    local net = require "rille.net"
    for i = 1, 10 do
      local peer = net.connect { host = "127.0.0.1", port = server.port }
      peer:write "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    end
    async.sleep(0.01)
  )lua");
}
