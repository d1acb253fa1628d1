// What a Value that is a table holds.
#pragma once

#include <rille/value.hpp>

namespace rille {

struct Value::Table {
  Items items;
  Fields fields;
};

}  // namespace rille
