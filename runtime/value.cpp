// Value and Error, which know nothing of Lua; host_values.cpp takes them there and back.
#include <rille/value.hpp>

#include "value_table.h"

namespace rille {

// ---- Error -------------------------------------------------------------------------------------

Error::Error(std::string kind, std::string message, std::string traceback)
    : kind_(std::move(kind)),
      message_(std::move(message)),
      traceback_(std::move(traceback)),
      what_(kind_ + ": " + message_) {
  text_ = what_;
  if (!traceback_.empty()) text_ += "\n" + traceback_;
}

Error::~Error() = default;
Error::Error(const Error&) = default;
Error& Error::operator=(const Error&) = default;

Error& Error::set_code(std::string code) {
  code_ = std::move(code);
  return *this;
}

Error& Error::set_text(std::string text) {
  text_ = std::move(text);
  return *this;
}

Error& Error::set_cancelled(bool cancelled) {
  cancelled_ = cancelled;
  return *this;
}

// ---- Value -------------------------------------------------------------------------------------

Value::Value() noexcept = default;
Value::Value(std::nullptr_t) noexcept {}
Value::Value(FromBool, bool b) : data_(b) {}
Value::Value(FromNumber, double n) : data_(n) {}
Value::Value(std::string text) : data_(std::move(text)) {}
Value::Value(std::string_view text) : data_(std::string(text)) {}
Value::Value(const char* text) {
  if (text) data_ = std::string(text);
}
Value::Value(Items list) : data_(std::make_shared<Table>()) {
  std::get<TablePointer>(data_)->items = std::move(list);
}
Value::Value(detail::Object object) {
  if (object.pointer) data_ = std::move(object);
}
Value::Value(std::shared_ptr<detail::Function> function) : data_(std::move(function)) {}
Value::~Value() = default;
// What was moved from is nil: a table without its content would be none.
Value::Value(Value&& other) noexcept : data_(std::exchange(other.data_, {})) {}
Value& Value::operator=(Value&& other) noexcept {
  Value taken(std::move(other));  // which may stand in the table that goes
  data_.swap(taken.data_);
  return *this;
}

Value::Value(const Value& other) : data_(other.data_) {
  if (auto* table = std::get_if<TablePointer>(&data_)) *table = std::make_shared<Table>(**table);
}

Value& Value::operator=(const Value& other) {
  if (this != &other) *this = Value(other);
  return *this;
}

Value Value::table() { return Value(Items()); }
Value Value::list(Items items) { return Value(std::move(items)); }

Value::Type Value::type() const noexcept { return static_cast<Type>(data_.index()); }

const char* Value::type_name() const noexcept {
  static constexpr const char* kNames[] = {"nil",   "boolean",  "number", "string",
                                           "table", "function", "object"};
  return kNames[data_.index()];
}

Value::Table& Value::checked_table() const {
  auto* table = std::get_if<TablePointer>(&data_);
  if (!table) detail::throw_type_error("table", *this);
  return **table;
}

namespace {

// The place in the list that a key names, from 1; 0 if it names none.
std::size_t list_position(const Value& key) {
  if (!key.is<std::uint32_t>()) return 0;
  return key.as<std::uint32_t>();
}

void check_key(const Value& key) {
  bool usable = key.is<bool>() || key.is<std::string>() ||
                (key.is<double>() && !std::isnan(key.as<double>()));
  if (!usable) throw Error("TypeError", std::string("no key of a table: ") + key.type_name());
}

const Value kNil;

}  // namespace

const Value& Value::operator[](const Value& key) const {
  Table& table = checked_table();
  std::size_t position = list_position(key);
  if (position > 0 && position <= table.items.size()) return table.items[position - 1];
  auto found = table.fields.find(key);
  return found == table.fields.end() ? kNil : found->second;
}

Value& Value::operator[](const Value& key) {
  Table& table = checked_table();
  std::size_t position = list_position(key);
  if (position > 0 && position <= table.items.size()) return table.items[position - 1];
  check_key(key);
  if (position != table.items.size() + 1) return table.fields[key];
  // The list grows, by what stands behind its new end too.
  auto found = table.fields.find(key);
  table.items.push_back(found == table.fields.end() ? Value() : std::move(found->second));
  if (found != table.fields.end()) table.fields.erase(found);
  for (;;) {
    auto next = table.fields.find(Value(table.items.size() + 1));
    if (next == table.fields.end()) break;
    table.items.push_back(std::move(next->second));
    table.fields.erase(next);
  }
  return table.items[position - 1];
}

const Value::Items& Value::items() const { return checked_table().items; }
const Value::Fields& Value::fields() const { return checked_table().fields; }
std::size_t Value::size() const { return checked_table().items.size(); }

bool operator==(const Value& a, const Value& b) {
  if (a.type() != b.type()) return false;
  switch (a.type()) {
    case Value::Type::kTable:
      return a.items() == b.items() && a.fields() == b.fields();
    case Value::Type::kObject:
      return a.object()->pointer == b.object()->pointer;
    case Value::Type::kNil:
      return true;
    case Value::Type::kBoolean:
      return *a.boolean() == *b.boolean();
    case Value::Type::kNumber:
      return *a.number() == *b.number();
    case Value::Type::kString:
      return *a.text() == *b.text();
    case Value::Type::kFunction:
      break;
  }
  return std::get<std::shared_ptr<detail::Function>>(a.data_) ==
         std::get<std::shared_ptr<detail::Function>>(b.data_);
}

bool operator<(const Value& a, const Value& b) {
  if (a.type() != b.type()) return a.type() < b.type();
  switch (a.type()) {
    case Value::Type::kBoolean:
      return *a.boolean() < *b.boolean();
    case Value::Type::kNumber:
      return *a.number() < *b.number();
    case Value::Type::kString:
      return *a.text() < *b.text();
    default:
      return false;  // these are no keys
  }
}

namespace detail {

void throw_type_error(const char* wanted, const Value& value) {
  throw Error("TypeError", std::string(wanted) + " expected, got " + value.type_name());
}

}  // namespace detail
}  // namespace rille
