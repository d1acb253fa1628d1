// The bindings that come with Rille: what `require` finds under these names is C++.
#include <rille/builtin.hpp>

namespace rille {

const BuiltinModule kBuiltinModules[] = {
    {nullptr, nullptr},
};

}  // namespace rille
