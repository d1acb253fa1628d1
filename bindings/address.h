// Addresses of sockets: from text and to text.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <string>
#include <string_view>

namespace rille {

// Reads an IP address of either family: 0 or UV_EINVAL.
int parse_address(const char* ip, int port, sockaddr_storage* out);

// The text of an IP address. One of IPv4 that IPv6 has in its clothes is shown as what it is, one
// that holds on one link only names that link: "fe80::1%eth0".
std::string ip_of(const sockaddr_storage& address);
int port_of(const sockaddr_storage& address);

// "127.0.0.1:80", "[::1]:80".
std::string address_text(const std::string& ip, int port);

// Either of the above, or the path of a Unix socket; "@name" if it is abstract, empty if it has no
// name. `size` is what the system gave with the address.
std::string address_text(const sockaddr_storage& address, std::size_t size);

// Reads the path of a Unix socket: 0, or UV_ENAMETOOLONG. A first byte of NUL or "@" makes it a
// name that stands in no folder.
int unix_address(std::string_view path, sockaddr_un* out, socklen_t* size);

}  // namespace rille
