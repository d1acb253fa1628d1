#include "address.h"

#include <net/if.h>
#include <netinet/in.h>
#include <uv.h>

#include <cstddef>
#include <cstring>

namespace rille {

int parse_address(const char* ip, int port, sockaddr_storage* out) {
  std::memset(out, 0, sizeof *out);
  if (uv_ip4_addr(ip, port, reinterpret_cast<sockaddr_in*>(out)) == 0) return 0;
  return uv_ip6_addr(ip, port, reinterpret_cast<sockaddr_in6*>(out));
}

std::string ip_of(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = "";
  if (address.ss_family == AF_INET6) {
    const auto& a = reinterpret_cast<const sockaddr_in6&>(address);
    if (IN6_IS_ADDR_V4MAPPED(&a.sin6_addr)) {
      uv_inet_ntop(AF_INET, &a.sin6_addr.s6_addr[12], text, sizeof text);
      return text;
    }
    uv_ip6_name(&a, text, sizeof text);
    char link[IF_NAMESIZE];
    if (a.sin6_scope_id != 0 && if_indextoname(a.sin6_scope_id, link)) {
      return std::string(text) + "%" + link;
    }
  } else {
    uv_ip4_name(reinterpret_cast<const sockaddr_in*>(&address), text, sizeof text);
  }
  return text;
}

int port_of(const sockaddr_storage& address) {
  // The port stands at the same place for both families.
  return ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

std::string address_text(const std::string& ip, int port) {
  std::string host = ip.find(':') == std::string::npos ? ip : "[" + ip + "]";
  return host + ":" + std::to_string(port);
}

std::string address_text(const sockaddr_storage& address, std::size_t size) {
  if (address.ss_family != AF_UNIX) return address_text(ip_of(address), port_of(address));
  const char* path = reinterpret_cast<const sockaddr_un*>(&address)->sun_path;
  if (size <= offsetof(sockaddr_un, sun_path)) return "";
  std::size_t length = size - offsetof(sockaddr_un, sun_path);
  if (path[0] == '\0') return std::string("@").append(path + 1, length - 1);
  return std::string(path, strnlen(path, length));
}

int unix_address(std::string_view path, sockaddr_un* out, socklen_t* size) {
  std::memset(out, 0, sizeof *out);
  out->sun_family = AF_UNIX;
  bool is_abstract = !path.empty() && (path[0] == '\0' || path[0] == '@');
  // A path ends with a NUL.
  if (path.size() > sizeof out->sun_path - (is_abstract ? 0 : 1)) return UV_ENAMETOOLONG;
  path.copy(out->sun_path, path.size());
  if (is_abstract) out->sun_path[0] = '\0';
  *size =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (is_abstract ? 0 : 1));
  return 0;
}

}  // namespace rille
