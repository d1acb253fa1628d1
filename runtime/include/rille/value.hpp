// What passes between a host and its scripts: values, and errors. Part of rille.hpp.
#ifndef RILLE_VALUE_HPP
#define RILLE_VALUE_HPP

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

// What the shared library shows.
#ifndef RILLE_API
#define RILLE_API __attribute__((visibility("default")))
#endif

namespace rille {

// What a script raised, or what a call of this API was given that it cannot use. Thrown by a
// function of the host's it becomes an error of the same kind in the script.
class RILLE_API Error : public std::exception {
 public:
  Error(std::string kind, std::string message, std::string traceback = {});
  ~Error() override;
  Error(const Error&);
  Error& operator=(const Error&);

  // What to tell it by: "TimeoutError", "OSError" ...; "Error" for what is no error object.
  const std::string& kind() const noexcept { return kind_; }
  const std::string& message() const noexcept { return message_; }
  // Where it was raised, and where each task on its way waited. Empty if it comes from no script.
  const std::string& traceback() const noexcept { return traceback_; }
  // "ENOENT" and the like, of the system's errors; else empty.
  const std::string& code() const noexcept { return code_; }
  // All that is known, for people: the error, its traceback, its causes.
  const std::string& text() const noexcept { return text_; }
  // True if the task was cancelled, and so did not fail; its kind is CancelledError then.
  bool cancelled() const noexcept { return cancelled_; }
  // "<kind>: <message>"
  const char* what() const noexcept override { return what_.c_str(); }

  Error& set_code(std::string code);
  Error& set_text(std::string text);
  Error& set_cancelled(bool cancelled);

 private:
  std::string kind_, message_, traceback_, code_, text_, what_;
  bool cancelled_ = false;
};

class Value;

namespace detail {

class Function;  // a function in one runtime

// An address for each type, as its name.
template <class T>
inline const char kTypeTag = 0;

// An object of a bound class.
struct Object {
  const void* type = nullptr;
  std::shared_ptr<void> pointer;
};

// What T is among values: As<T>::is(value), As<T>::get(value), As<T>::kName.
template <class T>
struct As {
  static_assert(sizeof(T) == 0, "rille: no value can be converted to this type");
};

template <class T>
struct Mismatch;  // why a value is no T: Mismatch<T>::text(value)

template <class T>
inline constexpr bool kIsNumber = std::is_arithmetic_v<T> && !std::is_same_v<T, bool>;

[[noreturn]] RILLE_API void throw_type_error(const char* wanted, const Value& value);

}  // namespace detail

// A Lua value outside of Lua. Numbers are doubles, as in Lua; tables are copied, in both
// directions, without their metatables; a function is a reference into its runtime, which alone can
// use it, and keeps nothing alive once that is closed; objects of bound classes are shared.
// A value can be given to another thread and another runtime, unless there is a function in it.
class RILLE_API Value {
 public:
  enum class Type { kNil, kBoolean, kNumber, kString, kTable, kFunction, kObject };
  using Items = std::vector<Value>;
  using Fields = std::map<Value, Value>;

  Value() noexcept;
  Value(std::nullptr_t) noexcept;  // NOLINT: all of these are meant to convert
  template <std::same_as<bool> B>
  Value(B b) : Value(FromBool{}, b) {}  // NOLINT
  template <class N>
  requires detail::kIsNumber<N> Value(N n)
      : Value(FromNumber{}, static_cast<double>(n)) {}  // NOLINT
  Value(std::string text);                              // NOLINT
  Value(std::string_view text);                         // NOLINT
  Value(const char* text);                              // NOLINT: null is nil
  Value(Items list);                                    // NOLINT: a table 1..n
  template <class T>
  requires(!std::same_as<T, Value>) && std::convertible_to<T, Value> Value(
                                           std::vector<T> list);  // NOLINT
  template <class T>
  requires std::convertible_to<T, Value> Value(std::map<std::string, T> fields);  // NOLINT
  template <class T>
  requires std::convertible_to<T, Value> Value(std::optional<T> value) {  // NOLINT
    if (value) *this = Value(std::move(*value));
  }
  // An object of a class that is bound with Runtime::define_class.
  template <class T>
  Value(std::shared_ptr<T> object)  // NOLINT
      : Value(detail::Object{&detail::kTypeTag<std::remove_const_t<T>>, std::move(object)}) {}
  ~Value();
  Value(const Value&);
  Value(Value&&) noexcept;
  Value& operator=(const Value&);
  Value& operator=(Value&&) noexcept;

  // An empty table.
  static Value table();
  // A table 1..n.
  static Value list(Items items);

  Type type() const noexcept;
  // Lua's name for the type: "nil", "number" ...
  const char* type_name() const noexcept;
  bool is_nil() const noexcept { return type() == Type::kNil; }
  bool is_table() const noexcept { return type() == Type::kTable; }
  bool is_function() const noexcept { return type() == Type::kFunction; }

  // Whether it is a T: bool, a number (for integer types one that fits), std::string,
  // std::string_view, std::nullptr_t, std::vector, std::map<std::string, ...>, std::optional,
  // std::shared_ptr of a bound class.
  template <class T>
  bool is() const {
    return detail::As<T>::is(*this);
  }
  // The T that it is. Throws Error (TypeError) if it is none. A string_view lives as long as the
  // value does.
  template <class T>
  T as() const {
    if (!detail::As<T>::is(*this)) throw Error("TypeError", detail::Mismatch<T>::text(*this));
    return detail::As<T>::get(*this);
  }

  // Of a table: the value at a key, nil if there is none. The non-const one makes a place for it.
  // Throws Error (TypeError) for what is no table, and for a key that is nil, NaN or no plain
  // value.
  const Value& operator[](const Value& key) const;
  Value& operator[](const Value& key);
  void set(const Value& key, Value value) { (*this)[key] = std::move(value); }
  // Of a table: the values at 1..n, and how many there are; all others by key.
  const Items& items() const;
  const Fields& fields() const;
  std::size_t size() const;

  friend RILLE_API bool operator==(const Value& a, const Value& b);
  // Some order; for keys.
  friend RILLE_API bool operator<(const Value& a, const Value& b);

 private:
  friend struct ValueAccess;
  template <class T>
  friend struct detail::As;
  struct FromBool {};
  struct FromNumber {};
  struct Table;
  using TablePointer = std::shared_ptr<Table>;  // shared by nobody
  Value(FromBool, bool b);
  Value(FromNumber, double n);
  explicit Value(detail::Object object);
  explicit Value(std::shared_ptr<detail::Function> function);

  const bool* boolean() const noexcept { return std::get_if<bool>(&data_); }
  const double* number() const noexcept { return std::get_if<double>(&data_); }
  const std::string* text() const noexcept { return std::get_if<std::string>(&data_); }
  const detail::Object* object() const noexcept { return std::get_if<detail::Object>(&data_); }
  Table& checked_table() const;

  std::variant<std::monostate, bool, double, std::string, TablePointer,
               std::shared_ptr<detail::Function>, detail::Object>
      data_;
};

// Any number of values: as the last parameter of a function for scripts it takes the rest of the
// arguments, as its result it gives several.
struct Values : std::vector<Value> {
  using std::vector<Value>::vector;
};

// ---- conversions -------------------------------------------------------------------------------

namespace detail {

template <>
struct As<Value> {
  static constexpr const char* kName = "value";
  static bool is(const Value&) { return true; }
  static const Value& get(const Value& v) { return v; }
};

template <>
struct As<std::nullptr_t> {
  static constexpr const char* kName = "nil";
  static bool is(const Value& v) { return v.is_nil(); }
  static std::nullptr_t get(const Value&) { return nullptr; }
};

template <>
struct As<bool> {
  static constexpr const char* kName = "boolean";
  static bool is(const Value& v) { return v.boolean() != nullptr; }
  static bool get(const Value& v) { return *v.boolean(); }
};

template <class T>
requires std::is_floating_point_v<T>
struct As<T> {
  static constexpr const char* kName = "number";
  static bool is(const Value& v) { return v.number() != nullptr; }
  static T get(const Value& v) { return static_cast<T>(*v.number()); }
};

template <class T>
requires std::is_integral_v<T> && kIsNumber<T>
struct As<T> {
  static constexpr const char* kName = "number";
  static bool is(const Value& v) { return v.number() && fits(*v.number()); }
  static bool fits(double n) {
    // The bounds are powers of two, which a double holds.
    constexpr double kBelow = std::is_signed_v<T> ? -bound() : 0;
    return n == std::floor(n) && n >= kBelow && n < bound();
  }
  static T get(const Value& v) { return static_cast<T>(*v.number()); }

 private:
  static constexpr double bound() {
    double b = 1;
    for (int i = 0; i < std::numeric_limits<T>::digits; ++i) b *= 2;
    return b;
  }
};

template <>
struct As<std::string> {
  static constexpr const char* kName = "string";
  static bool is(const Value& v) { return v.text() != nullptr; }
  static const std::string& get(const Value& v) { return *v.text(); }
};

template <>
struct As<std::string_view> : As<std::string> {
  static std::string_view get(const Value& v) { return *v.text(); }
};

template <>
struct As<const char*> : As<std::string> {
  static const char* get(const Value& v) { return v.text()->c_str(); }
};

template <class T>
struct As<std::optional<T>> {
  static constexpr const char* kName = As<T>::kName;
  static bool is(const Value& v) { return v.is_nil() || As<T>::is(v); }
  static std::optional<T> get(const Value& v) {
    if (v.is_nil()) return std::nullopt;
    return As<T>::get(v);
  }
};

template <class T>
struct As<std::vector<T>> {
  static constexpr const char* kName = "table";
  static bool is(const Value& v) {
    if (!v.is_table() || !v.fields().empty()) return false;
    for (const Value& item : v.items()) {
      if (!As<T>::is(item)) return false;
    }
    return true;
  }
  static std::vector<T> get(const Value& v) {
    std::vector<T> list;
    list.reserve(v.size());
    for (const Value& item : v.items()) list.push_back(As<T>::get(item));
    return list;
  }
};

template <class T>
struct As<std::map<std::string, T>> {
  static constexpr const char* kName = "table";
  static bool is(const Value& v) {
    if (!v.is_table() || v.size() > 0) return false;
    for (const auto& [key, value] : v.fields()) {
      if (!key.template is<std::string>() || !As<T>::is(value)) return false;
    }
    return true;
  }
  static std::map<std::string, T> get(const Value& v) {
    std::map<std::string, T> all;
    for (const auto& [key, value] : v.fields()) {
      all.emplace(As<std::string>::get(key), As<T>::get(value));
    }
    return all;
  }
};

template <class T>
struct As<std::shared_ptr<T>> {
  static constexpr const char* kName = "object";
  static bool is(const Value& v) {
    return v.object() && v.object()->type == &kTypeTag<std::remove_const_t<T>>;
  }
  static std::shared_ptr<T> get(const Value& v) {
    return std::static_pointer_cast<T>(v.object()->pointer);
  }
};

// REQUIRES, of all of these: the value is no T.
template <class T>
struct Mismatch {
  static std::string text(const Value& v) {
    if constexpr (kIsNumber<T> && std::is_integral_v<T>) {
      if (v.is<double>()) {
        double n = v.as<double>();
        return n == std::floor(n) ? "number out of range" : "number has no integer representation";
      }
    }
    return std::string(As<T>::kName) + " expected, got " + v.type_name();
  }
};

template <class T>
struct Mismatch<std::optional<T>> : Mismatch<T> {};

template <class T>
struct Mismatch<std::vector<T>> {
  static std::string text(const Value& v) {
    if (!v.is_table()) return std::string("table expected, got ") + v.type_name();
    for (std::size_t i = 0; i < v.size(); ++i) {
      const Value& item = v.items()[i];
      if (!As<T>::is(item)) return "item " + std::to_string(i + 1) + ": " + Mismatch<T>::text(item);
    }
    return "list expected, got a table with other keys";
  }
};

template <class T>
struct Mismatch<std::map<std::string, T>> {
  static std::string text(const Value& v) {
    if (!v.is_table()) return std::string("table expected, got ") + v.type_name();
    for (const auto& [key, value] : v.fields()) {
      if (key.template is<std::string>() && !As<T>::is(value)) {
        return "field '" + key.template as<std::string>() + "': " + Mismatch<T>::text(value);
      }
    }
    return "table with strings as its keys expected, got one with others";
  }
};

}  // namespace detail

template <class T>
requires(!std::same_as<T, Value>) && std::convertible_to<T, Value> Value::Value(
                                         std::vector<T> list) {
  Items items;
  items.reserve(list.size());
  for (auto&& item : list) items.emplace_back(static_cast<T>(item));
  *this = Value(std::move(items));
}

template <class T>
requires std::convertible_to<T, Value> Value::Value(std::map<std::string, T> fields)
    : Value(table()) {
  for (auto& [key, value] : fields) (*this)[key] = Value(std::move(value));
}

}  // namespace rille

#endif
