// How functions of a host are called by scripts: arguments and results by type. Part of rille.hpp.
#ifndef RILLE_CALL_HPP
#define RILLE_CALL_HPP

#include <functional>
#include <rille/value.hpp>
#include <tuple>

namespace rille {

class Completion;

namespace detail {

// One call of a function of the host's: its arguments, and where its results go.
class RILLE_API Call {
 public:
  // What an argument is to become, so that strings and numbers turn into each other as in Lua.
  enum class Want { kAny, kNumber, kInteger, kString, kBoolean };

  // How many arguments there are.
  int size() const;
  // The argument at a position from 1; nil beyond the last.
  Value argument(int position, Want want, const char* expected);
  [[noreturn]] void bad_argument(int position, const std::string& what);
  [[noreturn]] void bad_type(int position, const char* expected);
  // Takes the object in front of the arguments, which are counted from behind it.
  std::shared_ptr<void> self(const void* type);

  // The results.
  std::vector<Value> results;
  // Of a waiting function: how it ends the wait.
  Completion* completion = nullptr;

 private:
  friend struct CallAccess;
  void* state_ = nullptr;
  const std::string* name_ = nullptr;
  const std::string* class_name_ = nullptr;
  int first_ = 1;
};

using Body = std::function<void(Call&)>;

// The parameter's type as it is kept while the function runs.
template <class T>
struct Parameter {
  using Type = std::remove_cvref_t<T>;
  static constexpr bool kIsRest = false;

  static constexpr Call::Want want() {
    if constexpr (std::is_same_v<Type, bool>)
      return Call::Want::kBoolean;
    else if constexpr (std::is_integral_v<Type>)
      return Call::Want::kInteger;
    else if constexpr (std::is_floating_point_v<Type>)
      return Call::Want::kNumber;
    else
      return Call::Want::kAny;
  }

  static Type take(Call& call, int position) {
    Value v = call.argument(position, want(), As<Type>::kName);
    if (!As<Type>::is(v)) {
      if (v.is_table() || v.template is<double>()) {
        call.bad_argument(position, Mismatch<Type>::text(v));
      }
      call.bad_type(position, As<Type>::kName);
    }
    if constexpr (std::is_same_v<Type, Value>)
      return v;
    else
      return As<Type>::get(v);
  }
  static Type& pass(Type& kept) { return kept; }
};

// Text is kept as a string of its own, whatever the function wants to see it as.
template <class View>
struct TextParameter {
  using Type = std::string;
  static constexpr bool kIsRest = false;
  static Type take(Call& call, int position) {
    Value v = call.argument(position, Call::Want::kString, "string");
    if (!v.is<std::string>()) call.bad_type(position, "string");
    return v.as<std::string>();
  }
  static View pass(Type& kept) {
    if constexpr (std::is_same_v<View, const char*>)
      return kept.c_str();
    else if constexpr (std::is_same_v<View, std::string>)
      return std::move(kept);
    else
      return kept;
  }
};
template <>
struct Parameter<std::string> : TextParameter<std::string> {};
template <>
struct Parameter<const std::string&> : TextParameter<std::string&> {};
template <>
struct Parameter<std::string&&> : TextParameter<std::string> {};
template <>
struct Parameter<std::string_view> : TextParameter<std::string_view> {};
template <>
struct Parameter<const char*> : TextParameter<const char*> {};

// nil is none; else as the type itself, with its conversions and its error texts.
template <class T>
struct OptionalParameter {
  using Type = std::optional<typename Parameter<T>::Type>;
  static constexpr bool kIsRest = false;
  static Type take(Call& call, int position) {
    if (call.argument(position, Call::Want::kAny, As<T>::kName).is_nil()) return std::nullopt;
    return Parameter<T>::take(call, position);
  }
  static std::optional<T> pass(Type& kept) {
    if (!kept) return std::nullopt;
    return T(Parameter<T>::pass(*kept));
  }
};
template <class T>
struct Parameter<std::optional<T>> : OptionalParameter<T> {};
template <class T>
struct Parameter<const std::optional<T>&> : OptionalParameter<T> {};

struct RestParameter {
  using Type = Values;
  static constexpr bool kIsRest = true;
  static Type take(Call& call, int position) {
    Values rest;
    for (; position <= call.size(); ++position) {
      rest.push_back(call.argument(position, Call::Want::kAny, "value"));
    }
    return rest;
  }
  static Type& pass(Type& kept) { return kept; }
};
template <>
struct Parameter<Values> : RestParameter {};
template <>
struct Parameter<const Values&> : RestParameter {};

template <class T>
void give(Call& call, T&& result) {
  call.results.emplace_back(std::forward<T>(result));
}
inline void give(Call& call, Values results) {
  for (Value& v : results) call.results.push_back(std::move(v));
}
template <class... T>
void give(Call& call, std::tuple<T...> results) {
  std::apply([&](auto&... v) { (give(call, std::move(v)), ...); }, results);
}
template <class A, class B>
void give(Call& call, std::pair<A, B> results) {
  give(call, std::move(results.first));
  give(call, std::move(results.second));
}

// The result and the parameters of whatever can be called.
template <class F>
struct Signature : Signature<decltype(&F::operator())> {};
template <class R, class... A>
struct Signature<R(A...)> {
  using Result = R;
  using Parameters = std::tuple<A...>;
};
template <class R, class... A>
struct Signature<R (*)(A...)> : Signature<R(A...)> {};
template <class R, class... A>
struct Signature<R (*)(A...) noexcept> : Signature<R(A...)> {};
template <class C, class R, class... A>
struct Signature<R (C::*)(A...)> : Signature<R(A...)> {
  using Owner = C;
};
template <class C, class R, class... A>
struct Signature<R (C::*)(A...) const> : Signature<R(A...)> {
  using Owner = C;
};
template <class C, class R, class... A>
struct Signature<R (C::*)(A...) noexcept> : Signature<R(A...)> {
  using Owner = C;
};
template <class C, class R, class... A>
struct Signature<R (C::*)(A...) const noexcept> : Signature<R(A...)> {
  using Owner = C;
};
template <class R, class... A>
struct Signature<std::function<R(A...)>> : Signature<R(A...)> {};

// A callable that is kept: it need not be one that can be copied.
template <class F>
std::shared_ptr<std::decay_t<F>> keep(F&& f) {
  return std::make_shared<std::decay_t<F>>(std::forward<F>(f));
}

// Calls `f(given..., arguments...)`. `Skip` of f's parameters are among the given; the others are
// taken from the call.
template <std::size_t Skip, class F, std::size_t... I, class... Given>
void invoke(Call& call, F& f, std::index_sequence<I...>, Given&&... given) {
  using Types = typename Signature<std::remove_cvref_t<F>>::Parameters;
  // In braces, so that the first wrong argument is the one that is named.
  std::tuple<typename Parameter<std::tuple_element_t<Skip + I, Types>>::Type...> kept{
      Parameter<std::tuple_element_t<Skip + I, Types>>::take(call, static_cast<int>(I) + 1)...};
  auto run = [&]() -> decltype(auto) {
    return std::invoke(
        f, std::forward<Given>(given)...,
        Parameter<std::tuple_element_t<Skip + I, Types>>::pass(std::get<I>(kept))...);
  };
  if constexpr (std::is_void_v<decltype(run())>) {
    run();
  } else {
    give(call, run());
  }
}

template <std::size_t Skip, class F, class... Given>
void call_with(Call& call, F& f, Given&&... given) {
  using Types = typename Signature<std::remove_cvref_t<F>>::Parameters;
  static_assert(std::tuple_size_v<Types> >= Skip, "a parameter is missing");
  invoke<Skip>(call, f, std::make_index_sequence<std::tuple_size_v<Types> - Skip>(),
               std::forward<Given>(given)...);
}

}  // namespace detail
}  // namespace rille

#endif
