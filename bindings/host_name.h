// Names of hosts, as the DNS takes them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace rille {

// The name with labels beyond ASCII encoded ("bücher.example" is "xn--bcher-kva.example"); upper
// case is folded in ASCII alone. Nothing if it cannot be a name: an empty label or one longer than
// 63 bytes, more than 253 bytes, text that is not UTF-8.
std::optional<std::string> host_name(std::string_view name);

}  // namespace rille
