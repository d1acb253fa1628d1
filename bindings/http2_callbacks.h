// What nghttp2 asks and tells a session of HTTP/2.
#pragma once

#include "http2_session.h"

namespace rille::http2 {

// How a buffer for frames grows and shrinks.
constexpr std::size_t kPiece = 65536;     // bytes of frames put out at once
constexpr std::size_t kMostKept = 16384;  // capacity that a buffer keeps

// All sessions have the same, which is only read.
nghttp2_session_callbacks* session_callbacks();

// For nghttp2 to fetch the exchange's body from.
nghttp2_data_provider body_of(Exchange* e);

}  // namespace rille::http2
