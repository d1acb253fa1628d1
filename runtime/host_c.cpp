// rille.h: rille.hpp for C. No exception leaves a function here.
#include <rille/rille.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iterator>
#include <list>
#include <rille/rille.hpp>

#include "host.h"

namespace rille {

struct RuntimeAccess {
  static void define_class(Runtime* runtime, const rille_class* type) {
    runtime->make_class(type, type->name);
  }
  static void constructor(Runtime* runtime, const rille_class* type, detail::Body body) {
    runtime->class_constructor(type, type->name, std::move(body));
  }
  static void method(Runtime* runtime, const rille_class* type, const char* name, detail::Body body,
                     bool waits) {
    runtime->class_method(type, name, std::move(body), waits);
  }
  static void define(Runtime* runtime, const char* name, detail::Body body, bool waits) {
    if (waits) {
      runtime->define_waiting(name, std::move(body));
    } else {
      runtime->define_body(name, std::move(body));
    }
  }
};

}  // namespace rille

using rille::Error;
using rille::Value;

struct rille_value {
  Value value;
};
struct rille_runtime {
  rille::Runtime runtime;
};
struct rille_task {
  rille::Task task;
  std::shared_ptr<rille_task*> self;  // null in there once it was freed
};
struct rille_completion {
  rille::Completion completion;
};
struct rille_call {
  rille::detail::Call* call;
  std::list<rille_value> arguments{};  // that were read
  std::exception_ptr failure{};        // to be thrown where no C is in between
  std::shared_ptr<void> self{};        // of a method
};

namespace {

char* copy(const std::string& text) {
  auto* c = static_cast<char*>(std::malloc(text.size() + 1));
  if (c) std::memcpy(c, text.c_str(), text.size() + 1);
  return c;
}

void fill(rille_exception* to, const Error& e) {
  if (!to) return;
  rille_exception_clear(to);
  *to = {copy(e.kind()), copy(e.message()), copy(e.traceback()),
         copy(e.code()), copy(e.text()),    e.cancelled()};
}

// Runs f(); what it throws goes to `error`, and `failed` is returned.
template <class F, class R = decltype(std::declval<F>()())>
R guard(rille_exception* error, R failed, F&& f) {
  try {
    return f();
  } catch (const Error& e) {
    fill(error, e);
  } catch (const std::exception& e) {
    fill(error, Error("Error", e.what()));
  }
  return failed;
}

// A text that has to be there.
const char* given(const char* text, const char* what) {
  if (!text) throw Error("TypeError", std::string(what) + ": a text expected, got NULL");
  return text;
}

template <class F>
F* given_function(F* fn) {
  if (!fn) throw Error("TypeError", "a function expected, got NULL");
  return fn;
}

rille::Runtime& given(rille_runtime* runtime) {
  if (!runtime) throw Error("TypeError", "a runtime expected, got NULL");
  return runtime->runtime;
}

rille::Task& given(rille_task* task) {
  if (!task) throw Error("TypeError", "a task expected, got NULL");
  return task->task;
}

const rille_class* given(const rille_class* type) {
  if (!type || !type->name) throw Error("TypeError", "a class with a name expected, got NULL");
  return type;
}

const char* text_of(const char* text) { return text ? text : ""; }

std::vector<std::string> list_of(const char* const* texts) {
  std::vector<std::string> list;
  for (; texts && *texts; ++texts) list.emplace_back(*texts);
  return list;
}

rille_value* own(Value v) { return new rille_value{std::move(v)}; }

rille_value* own_list(std::vector<Value> list) { return own(Value(std::move(list))); }

rille_task* own(rille::Task task) {
  auto* t = new rille_task{std::move(task), nullptr};
  t->self = std::make_shared<rille_task*>(t);
  return t;
}

Value take(rille_value* v) {
  std::unique_ptr<rille_value> owner(v);
  return owner ? std::move(owner->value) : Value();
}

// A borrowed part of a value: rille_value is nothing but its Value.
static_assert(sizeof(rille_value) == sizeof(Value));
const rille_value* borrow(const Value& v) { return reinterpret_cast<const rille_value*>(&v); }

// What a program has given that was compiled with another version, whose options may be longer or
// shorter.
rille_options known_options(const rille_options* given, std::size_t size) {
  rille_options known{};
  const char* bytes = reinterpret_cast<const char*>(given);
  for (std::size_t i = sizeof known; i < size; ++i) {
    if (bytes[i] == 0) continue;
    throw Error(
        "TypeError",
        std::string("rille_open: an option that is set is not known to Rille ") + rille::version());
  }
  std::memcpy(&known, given, std::min(size, sizeof known));
  return known;
}

rille::Options options_of(const rille_options* given, std::size_t size) {
  rille::Options options;
  if (!given) return options;
  const rille_options known = known_options(given, size);
  const rille_options* from = &known;
  options.interruptible = from->uninterruptible == 0;
  options.script = text_of(from->script);
  options.command = list_of(from->command);
  options.loop = from->loop;
  options.args = list_of(from->args);
  options.debug = from->debug != 0;
  options.memory_limit = from->memory_limit;
  options.slice_limit = from->slice_limit;
  options.modules = list_of(from->modules);
  options.executable = text_of(from->executable);
  if (from->sandboxed) {
    options.permissions = rille::Permissions::none();
    for (auto& x : list_of(from->allow_read)) options.permissions.allow_read(x);
    for (auto& x : list_of(from->allow_write)) options.permissions.allow_write(x);
    for (auto& x : list_of(from->allow_net)) options.permissions.allow_net(x);
    for (auto& x : list_of(from->allow_run)) options.permissions.allow_run(x);
    for (auto& x : list_of(from->allow_env)) options.permissions.allow_env(x);
  }
  if (from->on_report) {
    options.on_report = [fn = from->on_report,
                         data = from->on_report_data](const rille::Report& r) {
      rille_report report{r.message.c_str(), r.error.c_str(), r.traceback.c_str(), r.text.c_str()};
      fn(&report, data);
    };
  }
  return options;
}

// Of "game.Ship" what scripts know the class by.
const char* last_part(const char* name) {
  const char* dot = std::strrchr(name, '.');
  return dot ? dot + 1 : name;
}

// The data of a function in C, freed with its last copy.
std::shared_ptr<void> hold(void* data, void (*free_data)(void*)) {
  return {data, [free_data](void* d) {
            if (free_data) free_data(d);
          }};
}

// Ends a call into C: throws what it left.
void finish(rille_call* call, int status) {
  if (call->failure) std::rethrow_exception(call->failure);
  if (status != 0) throw Error("Error", "the host's function has failed");
}

// Reads an argument of a type. Wrong ones are kept, to be thrown when C has returned.
template <class T>
const Value* argument(rille_call* call, int position, rille::detail::Call::Want want) {
  try {
    Value v = call->call->argument(position, want, rille::detail::As<T>::kName);
    if (!v.is<T>()) call->call->bad_type(position, rille::detail::As<T>::kName);
    call->arguments.push_back({std::move(v)});
    return &call->arguments.back().value;
  } catch (const std::exception&) {  // a Lua error passes through
    call->failure = std::current_exception();
    return nullptr;
  }
}

// A function of C's, as a script calls it; `type` is the class that it is a method of.
rille::detail::Body body_of(rille_function fn, std::shared_ptr<void> held,
                            const rille_class* type = nullptr) {
  given_function(fn);
  return [fn, held = std::move(held), type](rille::detail::Call& c) {
    rille_call call{&c};
    if (type) call.self = c.self(type);
    finish(&call, fn(&call, held.get()));
  };
}

rille::detail::Body body_of(rille_async_function fn, std::shared_ptr<void> held,
                            const rille_class* type = nullptr) {
  given_function(fn);
  return [fn, held = std::move(held), type](rille::detail::Call& c) {
    rille_call call{&c};
    if (type) call.self = c.self(type);
    auto* completion = new rille_completion{rille::Completion(*c.completion)};
    finish(&call, fn(completion, &call, held.get()));
  };
}

using Want = rille::detail::Call::Want;

}  // namespace

extern "C" {

const char* rille_version(void) { return rille::version(); }

void rille_exception_clear(rille_exception* error) {
  if (!error) return;
  for (char* text : {error->kind, error->message, error->traceback, error->code, error->text}) {
    std::free(text);
  }
  *error = {};
}

// ---- values ------------------------------------------------------------------------------------

rille_value* rille_nil(void) { return own(Value()); }
rille_value* rille_boolean(int b) { return own(Value(b != 0)); }
rille_value* rille_number(double n) { return own(Value(n)); }
rille_value* rille_string(const char* text) { return own(Value(text)); }
rille_value* rille_bytes(const char* data, size_t size) {
  return own(Value(data ? std::string(data, size) : std::string()));
}
rille_value* rille_table(void) { return own(Value::table()); }
rille_value* rille_value_copy(const rille_value* v) { return own(v ? v->value : Value()); }
void rille_value_free(rille_value* v) { delete v; }

rille_type rille_value_type(const rille_value* v) {
  return v ? static_cast<rille_type>(v->value.type()) : RILLE_NIL;
}

int rille_to_boolean(const rille_value* v) {
  if (!v || v->value.is_nil()) return 0;
  return v->value.is<bool>() ? v->value.as<bool>() : 1;
}

double rille_to_number(const rille_value* v) {
  return v && v->value.is<double>() ? v->value.as<double>() : 0;
}

const char* rille_to_string(const rille_value* v, size_t* size) {
  bool is_text = v && v->value.is<std::string>();
  std::string_view text = is_text ? v->value.as<std::string_view>() : std::string_view();
  if (size) *size = text.size();
  return is_text ? text.data() : nullptr;
}

size_t rille_size(const rille_value* table) {
  return table && table->value.is_table() ? table->value.size() : 0;
}

const rille_value* rille_at(const rille_value* table, size_t position) {
  if (position == 0 || position > rille_size(table)) return nullptr;
  return borrow(table->value.items()[position - 1]);
}

const rille_value* rille_field(const rille_value* table, const char* name) {
  if (!table || !table->value.is_table()) return nullptr;
  auto found = table->value.fields().find(Value(name));
  return found == table->value.fields().end() ? nullptr : borrow(found->second);
}

size_t rille_field_count(const rille_value* table) {
  return table && table->value.is_table() ? table->value.fields().size() : 0;
}

const rille_value* rille_field_at(const rille_value* table, size_t number,
                                  const rille_value** key) {
  if (number >= rille_field_count(table)) return nullptr;
  auto field = std::next(table->value.fields().begin(), static_cast<std::ptrdiff_t>(number));
  if (key) *key = borrow(field->first);
  return borrow(field->second);
}

int rille_set_field(rille_value* table, const char* name, rille_value* v) {
  Value value = take(v);
  if (!table || !table->value.is_table() || !name) return -1;
  table->value[name] = std::move(value);
  return 0;
}

int rille_append(rille_value* table, rille_value* v) {
  Value value = take(v);
  if (!table || !table->value.is_table()) return -1;
  table->value[table->value.size() + 1] = std::move(value);
  return 0;
}

const rille_value* rille_get_key(const rille_value* table, const rille_value* key) {
  if (!table || !key) return nullptr;
  return guard(nullptr, static_cast<const rille_value*>(nullptr), [&] {
    const Value& found = table->value[key->value];
    return found.is_nil() ? nullptr : borrow(found);
  });
}

int rille_set_key(rille_value* table, const rille_value* key, rille_value* v) {
  Value value = take(v);
  if (!table || !key) return -1;
  return guard(nullptr, -1, [&] {
    table->value[key->value] = std::move(value);
    return 0;
  });
}

// ---- opening and closing -----------------------------------------------------------------------

rille_runtime* rille_open_sized(const rille_options* options, size_t size, rille_exception* error) {
  return guard(error, static_cast<rille_runtime*>(nullptr),
               [&] { return new rille_runtime{rille::Runtime(options_of(options, size))}; });
}

int rille_finish(rille_runtime* runtime, rille_exception* error) {
  return guard(error, -1, [&] {
    given(runtime).finish();
    return 0;
  });
}

int rille_close(rille_runtime* runtime, rille_exception* error) {
  if (!runtime) return 0;
  return guard(error, -1, [&] {
    runtime->runtime.close();
    delete runtime;
    return 0;
  });
}

int rille_has_libraries(const rille_runtime* runtime) {
  return runtime && runtime->runtime.has_libraries();
}

int rille_lost_errors(const rille_runtime* runtime) {
  return runtime ? runtime->runtime.lost_errors() : 0;
}

int rille_exit_status(const rille_runtime* runtime) {
  return runtime ? runtime->runtime.exit_status() : -1;
}

lua_State* rille_lua_state(rille_runtime* runtime) {
  return runtime ? runtime->runtime.lua_state() : nullptr;
}

// ---- scripts -----------------------------------------------------------------------------------

rille_value* rille_run_file(rille_runtime* runtime, const char* path, const char* const* args,
                            rille_exception* error) {
  return guard(error, static_cast<rille_value*>(nullptr), [&] {
    return own_list(given(runtime).run_file(given(path, "path"), list_of(args)));
  });
}

rille_value* rille_run_string(rille_runtime* runtime, const char* code, const char* chunk_name,
                              rille_exception* error) {
  return guard(error, static_cast<rille_value*>(nullptr), [&] {
    return own_list(
        given(runtime).run_string(given(code, "code"), chunk_name ? chunk_name : "=string"));
  });
}

rille_task* rille_spawn_file(rille_runtime* runtime, const char* path, const char* const* args,
                             rille_exception* error) {
  return guard(error, static_cast<rille_task*>(nullptr),
               [&] { return own(given(runtime).spawn_file(given(path, "path"), list_of(args))); });
}

rille_task* rille_spawn_string(rille_runtime* runtime, const char* code, const char* chunk_name,
                               rille_exception* error) {
  return guard(error, static_cast<rille_task*>(nullptr), [&] {
    return own(
        given(runtime).spawn_string(given(code, "code"), chunk_name ? chunk_name : "=string"));
  });
}

rille_task* rille_spawn(rille_runtime* runtime, const rille_value* function,
                        const rille_value* args, rille_exception* error) {
  return guard(error, static_cast<rille_task*>(nullptr), [&] {
    rille::Runtime& where = given(runtime);
    std::vector<Value> list;
    if (args) list = args->value.items();
    return own(where.spawn_with(function ? function->value : Value(), std::move(list)));
  });
}

int rille_task_done(const rille_task* task) { return !task || task->task.done(); }

rille_value* rille_task_result(rille_task* task, rille_exception* error) {
  return guard(error, static_cast<rille_value*>(nullptr),
               [&] { return own_list(given(task).result()); });
}

int rille_task_cancel(rille_task* task, const char* reason, rille_exception* error) {
  return guard(error, -1, [&] {
    given(task).cancel(text_of(reason));
    return 0;
  });
}

void rille_task_on_done(rille_task* task, void (*fn)(rille_task*, void*), void* data) {
  if (!task || !fn) return;
  task->task.on_done([self = task->self, fn, data](rille::Task&) { fn(*self, data); });
}

void rille_task_free(rille_task* task) {
  if (!task) return;
  *task->self = nullptr;
  delete task;
}

int rille_cancel(rille_runtime* runtime, const char* reason, rille_exception* error) {
  return guard(error, -1, [&] {
    given(runtime).cancel(text_of(reason));
    return 0;
  });
}

// ---- what scripts see --------------------------------------------------------------------------

rille_value* rille_get(rille_runtime* runtime, const char* name, rille_exception* error) {
  return guard(error, static_cast<rille_value*>(nullptr),
               [&] { return own(given(runtime).get(given(name, "name"))); });
}

int rille_set(rille_runtime* runtime, const char* name, rille_value* v, rille_exception* error) {
  return guard(error, -1, [&] {
    Value value = take(v);
    given(runtime).set(given(name, "name"), std::move(value));
    return 0;
  });
}

int rille_define(rille_runtime* runtime, const char* name, rille_function fn, void* data,
                 void (*free_data)(void*), rille_exception* error) {
  std::shared_ptr<void> held = hold(data, free_data);
  return guard(error, -1, [&] {
    rille::RuntimeAccess::define(&given(runtime), given(name, "name"), body_of(fn, held), false);
    return 0;
  });
}

int rille_define_async(rille_runtime* runtime, const char* name, rille_async_function fn,
                       void* data, void (*free_data)(void*), rille_exception* error) {
  std::shared_ptr<void> held = hold(data, free_data);
  return guard(error, -1, [&] {
    rille::RuntimeAccess::define(&given(runtime), given(name, "name"), body_of(fn, held), true);
    return 0;
  });
}

int rille_define_class(rille_runtime* runtime, const rille_class* type, rille_function constructor,
                       void* data, void (*free_data)(void*), rille_exception* error) {
  std::shared_ptr<void> held = hold(data, free_data);
  return guard(error, -1, [&] {
    rille::RuntimeAccess::define_class(&given(runtime), given(type));
    if (constructor) {
      rille::RuntimeAccess::constructor(&runtime->runtime, type, body_of(constructor, held));
    }
    return 0;
  });
}

int rille_define_method(rille_runtime* runtime, const rille_class* type, const char* name,
                        rille_function fn, void* data, void (*free_data)(void*),
                        rille_exception* error) {
  std::shared_ptr<void> held = hold(data, free_data);
  return guard(error, -1, [&] {
    rille::RuntimeAccess::define_class(&given(runtime), given(type));
    rille::RuntimeAccess::method(&runtime->runtime, type, given(name, "name"),
                                 body_of(fn, held, type), false);
    return 0;
  });
}

int rille_define_async_method(rille_runtime* runtime, const rille_class* type, const char* name,
                              rille_async_function fn, void* data, void (*free_data)(void*),
                              rille_exception* error) {
  std::shared_ptr<void> held = hold(data, free_data);
  return guard(error, -1, [&] {
    rille::RuntimeAccess::define_class(&given(runtime), given(type));
    rille::RuntimeAccess::method(&runtime->runtime, type, given(name, "name"),
                                 body_of(fn, held, type), true);
    return 0;
  });
}

void* rille_call_self(const rille_call* call) { return call->self.get(); }

int rille_call_object(rille_call* call, int position, const rille_class* type, void** object) {
  const rille_value* v = rille_call_argument(call, position);
  *object = rille_to_object(v, type);
  if (*object) return 0;
  try {
    call->call->bad_type(position, last_part(type->name));
  } catch (const std::exception&) {
    call->failure = std::current_exception();
  }
  return -1;
}

rille_value* rille_object(const rille_class* type, void* object) {
  if (!type || !object) return rille_nil();
  return own(rille::ValueAccess::object({type, hold(object, type->free_object)}));
}

void* rille_to_object(const rille_value* v, const rille_class* type) {
  const rille::detail::Object* object = v ? rille::ValueAccess::object_of(v->value) : nullptr;
  return object && object->type == type ? object->pointer.get() : nullptr;
}

int rille_call_count(const rille_call* call) { return call->call->size(); }

const rille_value* rille_call_argument(rille_call* call, int position) {
  if (position < 1 || position > call->call->size()) return nullptr;
  const Value* v = argument<Value>(call, position, Want::kAny);
  call->failure = nullptr;
  return v ? borrow(*v) : nullptr;
}

int rille_call_boolean(rille_call* call, int position, int* b) {
  const Value* v = argument<bool>(call, position, Want::kBoolean);
  if (!v) return -1;
  *b = v->as<bool>();
  return 0;
}

int rille_call_number(rille_call* call, int position, double* n) {
  const Value* v = argument<double>(call, position, Want::kNumber);
  if (!v) return -1;
  *n = v->as<double>();
  return 0;
}

int rille_call_string(rille_call* call, int position, const char** text, size_t* size) {
  const Value* v = argument<std::string>(call, position, Want::kString);
  if (!v) return -1;
  *text = rille_to_string(borrow(*v), size);
  return 0;
}

void rille_call_return(rille_call* call, rille_value* v) { call->call->results.push_back(take(v)); }

int rille_call_fail(rille_call* call, const char* kind, const char* message) {
  call->failure = std::make_exception_ptr(Error(text_of(kind), text_of(message)));
  return -1;
}

void rille_completion_resolve(rille_completion* completion, rille_value* results) {
  std::unique_ptr<rille_completion> owner(completion);
  Value list = take(results);
  if (!completion) return;
  owner->completion.resolve_with(list.is_table() ? list.items() : std::vector<Value>());
}

void rille_completion_fail(rille_completion* completion, const char* kind, const char* message) {
  std::unique_ptr<rille_completion> owner(completion);
  if (!completion) return;
  owner->completion.fail(text_of(kind), text_of(message));
}

void rille_completion_drop(rille_completion* completion) { delete completion; }

void rille_completion_on_cancel(rille_completion* completion, void (*fn)(void*), void* data) {
  if (completion && fn) completion->completion.on_cancel([fn, data] { fn(data); });
}

int rille_completion_cancelled(const rille_completion* completion) {
  return completion && completion->completion.cancelled();
}

// ---- the loop ----------------------------------------------------------------------------------

int rille_run(rille_runtime* runtime, rille_exception* error) {
  return guard(error, -1, [&] {
    given(runtime).run();
    return 0;
  });
}

int rille_poll(rille_runtime* runtime, double budget_seconds, rille_exception* error) {
  return guard(error, -1, [&] { return given(runtime).poll(budget_seconds) ? 1 : 0; });
}

int rille_backend_fd(rille_runtime* runtime) {
  return runtime ? runtime->runtime.backend_fd() : -1;
}

double rille_timeout(rille_runtime* runtime) {
  return guard(nullptr, -1.0, [&] { return given(runtime).timeout(); });
}

uv_loop_s* rille_uv_loop(rille_runtime* runtime) {
  return runtime ? runtime->runtime.loop() : nullptr;
}

void rille_post(rille_runtime* runtime, void (*fn)(void*), void* data, void (*free_data)(void*)) {
  std::shared_ptr<void> held = hold(data, free_data);
  if (!runtime || !fn) return;
  runtime->runtime.post([fn, held = std::move(held)] { fn(held.get()); });
}

void rille_interrupt(rille_runtime* runtime, const char* reason) {
  if (runtime) runtime->runtime.interrupt(text_of(reason));
}

}  // extern "C"
