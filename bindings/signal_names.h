// Signals by their names.
#pragma once

#include <string>

namespace rille {

// "SIGTERM", "SIGRTMIN+2"; empty if there is no such signal.
std::string signal_name(int number);

// 0 if there is no such signal.
int signal_number(const std::string& name);

}  // namespace rille
