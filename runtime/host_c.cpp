// rille.h: rille.hpp for C. No exception leaves a function here.
#include <rille/rille.h>

#include <cstdlib>
#include <cstring>
#include <exception>
#include <iterator>
#include <list>
#include <rille/rille.hpp>

namespace rille {

struct RuntimeAccess {
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
  std::list<rille_value> arguments;  // that were read
  std::exception_ptr failure;        // to be thrown where no C is in between
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
  *to = {copy(e.kind()), copy(e.message()), copy(e.traceback()), copy(e.text()), e.cancelled()};
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

rille::Options options_of(const rille_options* from) {
  rille::Options options;
  if (!from) return options;
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

int define(rille_runtime* runtime, const char* name, rille::detail::Body body, bool waits,
           rille_exception* error) {
  return guard(error, -1, [&] {
    rille::RuntimeAccess::define(&runtime->runtime, given(name, "name"), std::move(body), waits);
    return 0;
  });
}

using Want = rille::detail::Call::Want;

}  // namespace

extern "C" {

const char* rille_version(void) { return rille::version(); }

void rille_exception_clear(rille_exception* error) {
  std::free(error->kind);
  std::free(error->message);
  std::free(error->traceback);
  std::free(error->text);
  *error = {};
}

// ---- values ------------------------------------------------------------------------------------

rille_value* rille_nil(void) { return own(Value()); }
rille_value* rille_boolean(int b) { return own(Value(b != 0)); }
rille_value* rille_number(double n) { return own(Value(n)); }
rille_value* rille_string(const char* text) { return own(Value(text)); }
rille_value* rille_bytes(const char* data, size_t size) {
  return own(Value(std::string(data, size)));
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

// ---- opening and closing -----------------------------------------------------------------------

rille_runtime* rille_open(const rille_options* options, rille_exception* error) {
  return guard(error, static_cast<rille_runtime*>(nullptr),
               [&] { return new rille_runtime{rille::Runtime(options_of(options))}; });
}

int rille_close(rille_runtime* runtime, rille_exception* error) {
  if (!runtime) return 0;
  return guard(error, -1, [&] {
    runtime->runtime.close();
    delete runtime;
    return 0;
  });
}

// ---- scripts -----------------------------------------------------------------------------------

rille_value* rille_run_file(rille_runtime* runtime, const char* path, const char* const* args,
                            rille_exception* error) {
  return guard(error, static_cast<rille_value*>(nullptr), [&] {
    return own_list(runtime->runtime.run_file(given(path, "path"), list_of(args)));
  });
}

rille_value* rille_run_string(rille_runtime* runtime, const char* code, const char* chunk_name,
                              rille_exception* error) {
  return guard(error, static_cast<rille_value*>(nullptr), [&] {
    return own_list(
        runtime->runtime.run_string(given(code, "code"), chunk_name ? chunk_name : "=string"));
  });
}

rille_task* rille_spawn_file(rille_runtime* runtime, const char* path, const char* const* args,
                             rille_exception* error) {
  return guard(error, static_cast<rille_task*>(nullptr), [&] {
    return own(runtime->runtime.spawn_file(given(path, "path"), list_of(args)));
  });
}

rille_task* rille_spawn_string(rille_runtime* runtime, const char* code, const char* chunk_name,
                               rille_exception* error) {
  return guard(error, static_cast<rille_task*>(nullptr), [&] {
    return own(
        runtime->runtime.spawn_string(given(code, "code"), chunk_name ? chunk_name : "=string"));
  });
}

rille_task* rille_spawn(rille_runtime* runtime, const rille_value* function,
                        const rille_value* args, rille_exception* error) {
  return guard(error, static_cast<rille_task*>(nullptr), [&] {
    std::vector<Value> list;
    if (args) list = args->value.items();
    return own(runtime->runtime.spawn_with(function ? function->value : Value(), std::move(list)));
  });
}

int rille_task_done(const rille_task* task) { return task->task.done(); }

rille_value* rille_task_result(rille_task* task, rille_exception* error) {
  return guard(error, static_cast<rille_value*>(nullptr),
               [&] { return own_list(task->task.result()); });
}

int rille_task_cancel(rille_task* task, const char* reason, rille_exception* error) {
  return guard(error, -1, [&] {
    task->task.cancel(text_of(reason));
    return 0;
  });
}

void rille_task_on_done(rille_task* task, void (*fn)(rille_task*, void*), void* data) {
  task->task.on_done([self = task->self, fn, data](rille::Task&) { fn(*self, data); });
}

void rille_task_free(rille_task* task) {
  if (!task) return;
  *task->self = nullptr;
  delete task;
}

int rille_cancel(rille_runtime* runtime, const char* reason, rille_exception* error) {
  return guard(error, -1, [&] {
    runtime->runtime.cancel(text_of(reason));
    return 0;
  });
}

// ---- what scripts see --------------------------------------------------------------------------

rille_value* rille_get(rille_runtime* runtime, const char* name, rille_exception* error) {
  return guard(error, static_cast<rille_value*>(nullptr),
               [&] { return own(runtime->runtime.get(given(name, "name"))); });
}

int rille_set(rille_runtime* runtime, const char* name, rille_value* v, rille_exception* error) {
  return guard(error, -1, [&] {
    Value value = take(v);
    runtime->runtime.set(given(name, "name"), std::move(value));
    return 0;
  });
}

int rille_define(rille_runtime* runtime, const char* name, rille_function fn, void* data,
                 void (*free_data)(void*), rille_exception* error) {
  auto body = [fn, held = hold(data, free_data)](rille::detail::Call& c) {
    rille_call call{&c, {}, nullptr};
    finish(&call, fn(&call, held.get()));
  };
  return define(runtime, name, std::move(body), false, error);
}

int rille_define_async(rille_runtime* runtime, const char* name, rille_async_function fn,
                       void* data, void (*free_data)(void*), rille_exception* error) {
  auto body = [fn, held = hold(data, free_data)](rille::detail::Call& c) {
    rille_call call{&c, {}, nullptr};
    auto* completion = new rille_completion{rille::Completion(*c.completion)};
    finish(&call, fn(completion, &call, held.get()));
  };
  return define(runtime, name, std::move(body), true, error);
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
  owner->completion.resolve_with(list.is_table() ? list.items() : std::vector<Value>());
}

void rille_completion_fail(rille_completion* completion, const char* kind, const char* message) {
  std::unique_ptr<rille_completion> owner(completion);
  owner->completion.fail(text_of(kind), text_of(message));
}

void rille_completion_drop(rille_completion* completion) { delete completion; }

void rille_completion_on_cancel(rille_completion* completion, void (*fn)(void*), void* data) {
  completion->completion.on_cancel([fn, data] { fn(data); });
}

// ---- the loop ----------------------------------------------------------------------------------

int rille_run(rille_runtime* runtime, rille_exception* error) {
  return guard(error, -1, [&] {
    runtime->runtime.run();
    return 0;
  });
}

int rille_poll(rille_runtime* runtime, double budget_seconds, rille_exception* error) {
  return guard(error, -1, [&] { return runtime->runtime.poll(budget_seconds) ? 1 : 0; });
}

int rille_backend_fd(rille_runtime* runtime) { return runtime->runtime.backend_fd(); }

double rille_timeout(rille_runtime* runtime) {
  return guard(nullptr, -1.0, [&] { return runtime->runtime.timeout(); });
}

uv_loop_t* rille_uv_loop(rille_runtime* runtime) { return runtime->runtime.loop(); }

void rille_post(rille_runtime* runtime, void (*fn)(void*), void* data) {
  runtime->runtime.post([fn, data] { fn(data); });
}

void rille_interrupt(rille_runtime* runtime, const char* reason) {
  runtime->runtime.interrupt(text_of(reason));
}

}  // extern "C"
