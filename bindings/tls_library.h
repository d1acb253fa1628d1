// OpenSSL's functions, loaded when TLS is first needed: linked in the usual way, its libraries take
// 1 ms and 1.5 MiB of every start, of scripts without TLS too.
#pragma once

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

namespace rille::tls {

// All that we call. Within this namespace their names are these pointers, also in OpenSSL's macros.
// clang-format off
#define RILLE_TLS_FUNCTIONS(F) \
  F(ASN1_STRING_get0_data) F(ASN1_STRING_length) F(ASN1_TIME_to_tm) F(BIO_clear_flags) \
  F(BIO_ctrl) F(BIO_free) F(BIO_get_data) F(BIO_meth_new) F(BIO_meth_set_ctrl) \
  F(BIO_meth_set_read_ex) F(BIO_meth_set_write_ex) F(BIO_new) F(BIO_new_mem_buf) F(BIO_s_mem) \
  F(BIO_set_data) F(BIO_set_flags) F(BIO_set_init) F(ERR_clear_error) F(ERR_get_error) \
  F(ERR_peek_last_error) F(ERR_reason_error_string) F(EVP_PKEY_free) F(GENERAL_NAMES_free) \
  F(GENERAL_NAME_get0_value) F(OPENSSL_init_ssl) F(OPENSSL_sk_num) F(OPENSSL_sk_value) \
  F(PEM_read_bio_PrivateKey) F(PEM_read_bio_X509_AUX) F(SSL_CIPHER_get_name) \
  F(SSL_CTX_add_client_CA) F(SSL_CTX_ctrl) F(SSL_CTX_free) F(SSL_CTX_get_cert_store) \
  F(SSL_CTX_get_ciphers) F(SSL_CTX_new) F(SSL_CTX_sess_set_new_cb) F(SSL_CTX_set1_cert_store) \
  F(SSL_CTX_set_alpn_protos) F(SSL_CTX_set_alpn_select_cb) F(SSL_CTX_set_cipher_list) \
  F(SSL_CTX_set_ciphersuites) F(SSL_CTX_set_options) F(SSL_CTX_set_session_id_context) \
  F(SSL_CTX_set_verify) F(SSL_CTX_use_PrivateKey) F(SSL_CTX_use_certificate) F(SSL_SESSION_free) \
  F(SSL_SESSION_get_protocol_version) F(SSL_SESSION_is_resumable) F(SSL_SESSION_up_ref) \
  F(SSL_ctrl) F(SSL_do_handshake) F(SSL_free) F(SSL_get0_alpn_selected) F(SSL_get0_param) \
  F(SSL_get0_peer_certificate) F(SSL_get_current_cipher) F(SSL_get_error) F(SSL_get_ex_data) \
  F(SSL_get_ex_data_X509_STORE_CTX_idx) F(SSL_get_servername) F(SSL_get_version) F(SSL_new) \
  F(SSL_peek_ex) F(SSL_pending) F(SSL_read_ex) F(SSL_select_next_proto) F(SSL_session_reused) \
  F(SSL_set_accept_state) F(SSL_set_bio) F(SSL_set_connect_state) F(SSL_set_ex_data) \
  F(SSL_set_session) F(SSL_shutdown) F(SSL_version) F(SSL_write_ex) F(TLS_client_method) \
  F(TLS_server_method) F(X509_NAME_print_ex) F(X509_STORE_CTX_get_current_cert) \
  F(X509_STORE_CTX_get_error) F(X509_STORE_CTX_get_ex_data) F(X509_STORE_add_cert) \
  F(X509_STORE_free) F(X509_STORE_new) F(X509_STORE_set_default_paths) F(X509_STORE_set_flags) \
  F(X509_VERIFY_PARAM_set1_host) F(X509_VERIFY_PARAM_set1_ip_asc) \
  F(X509_VERIFY_PARAM_set_hostflags) F(X509_check_private_key) F(X509_free) \
  F(X509_get0_notAfter) F(X509_get0_notBefore) F(X509_get_ext_d2i) F(X509_get_issuer_name) \
  F(X509_get_subject_name) F(X509_verify_cert_error_string)
// clang-format on

#define RILLE_TLS_POINTER(name) inline decltype(&::name) name = nullptr;
RILLE_TLS_FUNCTIONS(RILLE_TLS_POINTER)
#undef RILLE_TLS_POINTER

// Loads them, once for the process. Returns null, or why it is impossible.
// REQUIRES of everything else here: it was called.
const char* load_library();

}  // namespace rille::tls
