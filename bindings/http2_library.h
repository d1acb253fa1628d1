// nghttp2's functions, loaded when HTTP/2 is first spoken: nobody else has to pay for it.
#pragma once

#include <nghttp2/nghttp2.h>

namespace rille::http2 {

// All that we call. Within this namespace their names are these pointers.
// clang-format off
#define RILLE_HTTP2_FUNCTIONS(F) \
  F(nghttp2_option_new) F(nghttp2_option_set_max_outbound_ack) \
  F(nghttp2_option_set_max_send_header_block_length) F(nghttp2_option_set_no_auto_window_update) \
  F(nghttp2_option_set_no_closed_streams) F(nghttp2_session_callbacks_new) \
  F(nghttp2_session_callbacks_set_on_begin_headers_callback) \
  F(nghttp2_session_callbacks_set_on_data_chunk_recv_callback) \
  F(nghttp2_session_callbacks_set_on_frame_not_send_callback) \
  F(nghttp2_session_callbacks_set_on_frame_recv_callback) \
  F(nghttp2_session_callbacks_set_on_frame_send_callback) \
  F(nghttp2_session_callbacks_set_on_header_callback) \
  F(nghttp2_session_callbacks_set_on_invalid_frame_recv_callback) \
  F(nghttp2_session_callbacks_set_on_invalid_header_callback) \
  F(nghttp2_session_callbacks_set_on_stream_close_callback) \
  F(nghttp2_session_callbacks_set_send_data_callback) F(nghttp2_session_client_new2) \
  F(nghttp2_session_consume_connection) F(nghttp2_session_consume_stream) F(nghttp2_session_del) \
  F(nghttp2_session_get_last_proc_stream_id) F(nghttp2_session_get_remote_settings) \
  F(nghttp2_session_get_stream_user_data) F(nghttp2_session_mem_recv) \
  F(nghttp2_session_mem_send) F(nghttp2_session_resume_data) F(nghttp2_session_server_new2) \
  F(nghttp2_session_set_local_window_size) F(nghttp2_session_set_stream_user_data) \
  F(nghttp2_session_terminate_session) F(nghttp2_session_want_read) \
  F(nghttp2_session_want_write) F(nghttp2_submit_goaway) F(nghttp2_submit_headers) \
  F(nghttp2_submit_request) F(nghttp2_submit_response) F(nghttp2_submit_rst_stream) \
  F(nghttp2_submit_settings) F(nghttp2_submit_trailer)
// clang-format on

#define RILLE_HTTP2_POINTER(name) inline decltype(&::name) name = nullptr;
RILLE_HTTP2_FUNCTIONS(RILLE_HTTP2_POINTER)
#undef RILLE_HTTP2_POINTER

// Loads them, once for the process. Returns null, or why it is impossible.
// REQUIRES of everything else here: it was called.
const char* load_library();

}  // namespace rille::http2
