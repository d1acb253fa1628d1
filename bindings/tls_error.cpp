// TLS errors: OpenSSL's codes by name, and texts that say which certificate of whom is meant.
#include <arpa/inet.h>

#include <cctype>
#include <ctime>

#include "tls.h"

namespace rille::tls {

namespace {

struct VerifyCode {
  int value;
  const char* name;
};

#define CODE(name) \
  { X509_V_ERR_##name, #name }
const VerifyCode kVerifyCodes[] = {
    CODE(UNSPECIFIED),
    CODE(UNABLE_TO_GET_ISSUER_CERT),
    CODE(UNABLE_TO_GET_CRL),
    CODE(UNABLE_TO_DECRYPT_CERT_SIGNATURE),
    CODE(UNABLE_TO_DECRYPT_CRL_SIGNATURE),
    CODE(UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY),
    CODE(CERT_SIGNATURE_FAILURE),
    CODE(CRL_SIGNATURE_FAILURE),
    CODE(CERT_NOT_YET_VALID),
    CODE(CERT_HAS_EXPIRED),
    CODE(CRL_NOT_YET_VALID),
    CODE(CRL_HAS_EXPIRED),
    CODE(ERROR_IN_CERT_NOT_BEFORE_FIELD),
    CODE(ERROR_IN_CERT_NOT_AFTER_FIELD),
    CODE(ERROR_IN_CRL_LAST_UPDATE_FIELD),
    CODE(ERROR_IN_CRL_NEXT_UPDATE_FIELD),
    CODE(OUT_OF_MEM),
    CODE(DEPTH_ZERO_SELF_SIGNED_CERT),
    CODE(SELF_SIGNED_CERT_IN_CHAIN),
    CODE(UNABLE_TO_GET_ISSUER_CERT_LOCALLY),
    CODE(UNABLE_TO_VERIFY_LEAF_SIGNATURE),
    CODE(CERT_CHAIN_TOO_LONG),
    CODE(CERT_REVOKED),
    CODE(NO_ISSUER_PUBLIC_KEY),
    CODE(PATH_LENGTH_EXCEEDED),
    CODE(INVALID_PURPOSE),
    CODE(CERT_UNTRUSTED),
    CODE(CERT_REJECTED),
    CODE(SUBJECT_ISSUER_MISMATCH),
    CODE(AKID_SKID_MISMATCH),
    CODE(AKID_ISSUER_SERIAL_MISMATCH),
    CODE(KEYUSAGE_NO_CERTSIGN),
    CODE(UNABLE_TO_GET_CRL_ISSUER),
    CODE(UNHANDLED_CRITICAL_EXTENSION),
    CODE(KEYUSAGE_NO_CRL_SIGN),
    CODE(UNHANDLED_CRITICAL_CRL_EXTENSION),
    CODE(INVALID_NON_CA),
    CODE(PROXY_PATH_LENGTH_EXCEEDED),
    CODE(KEYUSAGE_NO_DIGITAL_SIGNATURE),
    CODE(PROXY_CERTIFICATES_NOT_ALLOWED),
    CODE(INVALID_EXTENSION),
    CODE(INVALID_POLICY_EXTENSION),
    CODE(NO_EXPLICIT_POLICY),
    CODE(DIFFERENT_CRL_SCOPE),
    CODE(UNSUPPORTED_EXTENSION_FEATURE),
    CODE(UNNESTED_RESOURCE),
    CODE(PERMITTED_VIOLATION),
    CODE(EXCLUDED_VIOLATION),
    CODE(SUBTREE_MINMAX),
    CODE(APPLICATION_VERIFICATION),
    CODE(UNSUPPORTED_CONSTRAINT_TYPE),
    CODE(UNSUPPORTED_CONSTRAINT_SYNTAX),
    CODE(UNSUPPORTED_NAME_SYNTAX),
    CODE(CRL_PATH_VALIDATION_ERROR),
    CODE(PATH_LOOP),
    CODE(HOSTNAME_MISMATCH),
    CODE(EMAIL_MISMATCH),
    CODE(IP_ADDRESS_MISMATCH),
    CODE(EE_KEY_TOO_SMALL),
    CODE(CA_KEY_TOO_SMALL),
    CODE(CA_MD_TOO_WEAK),
    CODE(INVALID_CALL),
    CODE(STORE_LOOKUP),
    CODE(NO_VALID_SCTS),
    CODE(PROXY_SUBJECT_NAME_VIOLATION),
    CODE(OCSP_VERIFY_NEEDED),
    CODE(OCSP_VERIFY_FAILED),
    CODE(OCSP_CERT_UNKNOWN),
    CODE(UNSUPPORTED_SIGNATURE_ALGORITHM),
    CODE(SIGNATURE_ALGORITHM_MISMATCH),
    CODE(SIGNATURE_ALGORITHM_INCONSISTENCY),
    CODE(INVALID_CA),
    CODE(PATHLEN_INVALID_FOR_NON_CA),
    CODE(PATHLEN_WITHOUT_KU_KEY_CERT_SIGN),
    CODE(KU_KEY_CERT_SIGN_INVALID_FOR_NON_CA),
    CODE(ISSUER_NAME_EMPTY),
    CODE(SUBJECT_NAME_EMPTY),
    CODE(MISSING_AUTHORITY_KEY_IDENTIFIER),
    CODE(MISSING_SUBJECT_KEY_IDENTIFIER),
    CODE(EMPTY_SUBJECT_ALT_NAME),
    CODE(EMPTY_SUBJECT_SAN_NOT_CRITICAL),
    CODE(CA_BCONS_NOT_CRITICAL),
    CODE(AUTHORITY_KEY_IDENTIFIER_CRITICAL),
    CODE(SUBJECT_KEY_IDENTIFIER_CRITICAL),
    CODE(CA_CERT_MISSING_KEY_USAGE),
    CODE(EXTENSIONS_REQUIRE_VERSION_3),
    CODE(EC_KEY_EXPLICIT_PARAMS),
};
#undef CODE

std::string verify_code(int error) {
  for (const VerifyCode& c : kVerifyCodes) {
    if (c.value == error) return c.name;
  }
  return "VERIFY_ERROR_" + std::to_string(error);
}

// "wrong version number" is the text of SSL_R_WRONG_VERSION_NUMBER.
std::string code_of(const char* text) {
  std::string code = text;
  for (char& c : code) {
    c = std::isalnum(static_cast<unsigned char>(c))
            ? static_cast<char>(std::toupper(static_cast<unsigned char>(c)))
            : '_';
  }
  return code;
}

std::string join(const std::vector<std::string>& list) {
  std::string text;
  for (const std::string& item : list) {
    if (!text.empty()) text += ", ";
    text += item;
  }
  return text;
}

// What makes the failure plain: the date that has passed, the names that were not asked for.
std::string detail(int error, X509* certificate, const std::string& wanted_name) {
  std::string text = name_text(X509_get_subject_name(certificate));
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return text + ", expired on " + time_text(X509_get0_notAfter(certificate));
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return text + ", valid from " + time_text(X509_get0_notBefore(certificate));
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH: {
      std::string names = join(names_of(certificate));
      if (names.empty()) names = text;
      return "the certificate is for " + names + ", not for " + wanted_name;
    }
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      text += ", issued by " + name_text(X509_get_issuer_name(certificate));
      break;
    default:
      break;
  }
  return text + ", expires on " + time_text(X509_get0_notAfter(certificate));
}

}  // namespace

Failure make_failure(std::string code, std::string message) {
  Failure f;
  f.status = UV_EPROTO;
  f.kind = "TLSError";
  f.code = std::move(code);
  f.message = std::move(message);
  return f;
}

Failure failure_from_queue(const std::string& after) {
  // The first one is the cause, but those of TLS itself say best what is wrong.
  unsigned long error = ERR_get_error();
  for (unsigned long e = error; e != 0; e = ERR_get_error()) {
    if (ERR_GET_LIB(e) != ERR_LIB_SSL) continue;
    error = e;
    break;
  }
  ERR_clear_error();
  if (ERR_SYSTEM_ERROR(error)) {
    Failure f;
    f.status = -static_cast<int>(ERR_GET_REASON(error));
    return f;
  }
  const char* text = error == 0 ? nullptr : ERR_reason_error_string(error);
  if (!text) text = "unknown error";
  return make_failure(code_of(text), text + (after.empty() ? "" : ": " + after));
}

Failure verification_failure(int error, X509* certificate, const std::string& wanted_name,
                             const std::string& peer) {
  std::string message = X509_verify_cert_error_string(error);
  if (certificate) message += ": " + detail(error, certificate, wanted_name);
  return make_failure(verify_code(error), message + ": " + peer);
}

std::string name_text(const X509_NAME* name) {
  BioPtr out(BIO_new(BIO_s_mem()));
  constexpr unsigned long kFlags =
      (XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB & ~XN_FLAG_SPC_EQ) | ASN1_STRFLGS_UTF8_CONVERT;
  if (!out || X509_NAME_print_ex(out.get(), name, 0, kFlags) < 0) return "";
  char* data;
  long size = BIO_get_mem_data(out.get(), &data);
  return std::string(data, static_cast<std::size_t>(size));
}

double seconds_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (!ASN1_TIME_to_tm(time, &parts)) return 0;
  return static_cast<double>(timegm(&parts));
}

std::string time_text(const ASN1_TIME* time) {
  std::tm parts{};
  char text[64];
  if (!ASN1_TIME_to_tm(time, &parts) ||
      std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts) == 0) {
    return "an unreadable date";
  }
  return text;
}

std::vector<std::string> names_of(X509* certificate) {
  std::vector<std::string> names;
  auto* all = static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(all); ++i) {
    int type;
    auto* value =
        static_cast<ASN1_STRING*>(GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(all, i), &type));
    if (type != GEN_DNS && type != GEN_IPADD) continue;
    const unsigned char* data = ASN1_STRING_get0_data(value);
    auto size = static_cast<std::size_t>(ASN1_STRING_length(value));
    if (type == GEN_DNS) {
      names.emplace_back(reinterpret_cast<const char*>(data), size);
    } else if (size == 4 || size == 16) {
      char text[INET6_ADDRSTRLEN];
      if (inet_ntop(size == 4 ? AF_INET : AF_INET6, data, text, sizeof text)) {
        names.emplace_back(text);
      }
    }
  }
  GENERAL_NAMES_free(all);
  return names;
}

}  // namespace rille::tls
