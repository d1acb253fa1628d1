// rille.core.worker: what stdlib/worker/ and the workers themselves are made of.
#include <pthread.h>
#include <signal.h>

#include <cstdlib>
#include <rille/builtin.hpp>
#include <rille/module.hpp>
#include <utility>

#include "thread_channel.h"
#include "worker_pool.h"

namespace rille::worker {

namespace {

std::string string_at(lua_State* L, int index) {
  std::size_t size;
  const char* text = luaL_checklstring(L, index, &size);
  return {text, size};
}

void charge(lua_State* L, Message* message) {
  constexpr std::size_t kLeast = 256;  // what an empty one takes
  message->charge = Charge(L);
  if (!message->charge.set(kLeast + message->bytes.size())) raise_out_of_memory(L);
}

// ---- pools of threads --------------------------------------------------------------------------

struct PoolHandle {
  static constexpr char kName[] = "rille.worker.Pool";
  explicit PoolHandle(std::shared_ptr<ThreadPool> p) : pool(std::move(p)) {}
  // Who is still at work ends by himself.
  ~PoolHandle() { pool->stop(); }
  std::shared_ptr<ThreadPool> pool;
};

// pool(size, max_jobs, initializer) -> a pool of so many threads at most; 0: any number of jobs
int pool(lua_State* L) {
  int size = luaL_checkint(L, 1), max_jobs = luaL_checkint(L, 2);
  lua_settop(L, 3);
  Message initializer;
  if (!lua_isnil(L, 3)) {
    encode(L, 3, Values::kCall, &initializer);
    charge(L, &initializer);
  }
  Options options = options_of(L);
  options.loop = nullptr;
  options.args.clear();
  options.script.clear();
  options.interruptible = true;  // a job that was cancelled may be in a loop without a wait
  PoolList* pools = PoolList::of(L);
  auto threads = std::make_shared<ThreadPool>(
      std::move(options), size, max_jobs, std::move(initializer), pools->lost(), pools->overseer());
  pools->add(threads);
  Class<PoolHandle>::push(L, std::move(threads));
  return 1;
}

// default_size() -> how many threads or processes a pool has that is given no size
int default_size(lua_State* L) {
  const char* text = std::getenv("RILLE_POOL_SIZE");
  char* end = nullptr;
  long size = text ? std::strtol(text, &end, 10) : 0;
  constexpr int kLargestSize = 1024;
  // What is no size was reported when the runtime began.
  bool is_size = text && *end == '\0' && size >= 1 && size <= kLargestSize;
  if (!is_size) size = uv_available_parallelism();
  lua_pushinteger(L, size);
  return 1;
}

// lost() -> how many errors of tasks of workers nobody has taken since the last call
int lost(lua_State* L) {
  lua_pushinteger(L, PoolList::of(L)->lost()->exchange(0));
  return 1;
}

// load() -> how many jobs of this runtime wait for a thread, and how many run that nobody waits for
int load(lua_State* L) {
  int queued = 0, abandoned = 0;
  for (const auto& pool : PoolList::of(L)->pools()) {
    queued += pool->queued();
    abandoned += pool->abandoned();
  }
  lua_pushinteger(L, queued);
  lua_pushinteger(L, abandoned);
  return 2;
}

ThreadPool* check_pool(lua_State* L) { return Class<PoolHandle>::check(L, 1)->pool.get(); }

// pool:set_paths(path, cpath)
int set_paths(lua_State* L) {
  ThreadPool* threads = check_pool(L);
  threads->set_paths({string_at(L, 2), string_at(L, 3)});
  return 0;
}

// pool:run(fn, ...) -> true, results…; false, error, trace; or a packet of these and whether it is
// an error
int run(lua_State* L) {
  ThreadPool* threads = check_pool(L);
  Message call;
  encode(L, 2, Values::kCall, &call);
  charge(L, &call);
  return threads->run(L, std::move(call));
}

// pool:close(): waits for the jobs that it was given
int close_pool(lua_State* L) { return check_pool(L)->close(L); }

// pool:stop(): waits for nothing
int stop(lua_State* L) {
  check_pool(L)->stop();
  return 0;
}

int is_closed(lua_State* L) {
  lua_pushboolean(L, check_pool(L)->is_closed());
  return 1;
}

int queued(lua_State* L) {
  lua_pushinteger(L, check_pool(L)->queued());
  return 1;
}

// ---- a worker's side ---------------------------------------------------------------------------

// take() -> true once there is a job, false when there will be none
int take(lua_State* L) { return Port::of(L)->take(L); }

// paths() -> path, cpath; nothing if they are those of the last call
int paths(lua_State* L) { return Port::of(L)->paths(L); }

// initializer_modules() -> { name, place, … } that the initializer needs, or nothing
int initializer_modules(lua_State* L) {
  const Message& message = Port::of(L)->initializer();
  if (!message.needs_modules) return 0;
  push_modules(L, message.bytes);
  return 1;
}

// initializer() -> the function that is to be called first, or nothing
int initializer(lua_State* L) {
  const Message& message = Port::of(L)->initializer();
  return message.bytes.empty() ? 0 : decode(L, message);
}

// modules() -> { name, place, … } that the job needs, or nothing
int modules(lua_State* L) {
  const Message& call = Port::of(L)->job()->call;
  if (!call.needs_modules) return 0;
  push_modules(L, call.bytes);
  return 1;
}

// call() -> fn, arguments… of the job
int call(lua_State* L) {
  Message message = std::move(Port::of(L)->job()->call);
  return decode(L, message);
}

// answer(ok, ...): results, or an error and its trace
int answer(lua_State* L) {
  bool ok = lua_toboolean(L, 1);
  Port* port = Port::of(L);
  Message message;
  if (!port->job()) return 0;
  if (!port->job()->cancelled) encode(L, 2, Values::kResults, &message);
  charge(L, &message);
  port->answer(std::move(message), !ok);
  return 0;
}

// is_cancelled() -> whether the job is to stop; nil if this is no worker
int is_cancelled(lua_State* L) {
  Job* job = Port::of(L)->job();
  lua_pushboolean(L, job && job->cancelled);
  return 1;
}

// count_lost(n): of the job's tasks, so many have failed with errors that nobody took
int count_lost(lua_State* L) {
  Port::of(L)->count_lost(static_cast<int>(lua_tointeger(L, 1)));
  return 0;
}

// What a worker starts by os.execute or io.popen has its parent's signal mask: none must be blocked
// there, or nobody can end it.
int call_unblocked(lua_State* L) {
  sigset_t none, before;
  sigemptyset(&none);
  lua_pushvalue(L, lua_upvalueindex(1));
  lua_insert(L, 1);
  pthread_sigmask(SIG_SETMASK, &none, &before);
  int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return status == 0 ? lua_gettop(L) : lua_error(L);
}

// unblocked(fn) -> a function that calls it with all signals let through
int unblocked(lua_State* L) {
  lua_settop(L, 1);
  lua_pushcclosure(L, call_unblocked, 1);
  return 1;
}

// on_cancel(fn): called on the loop when the job is to stop
int on_cancel(lua_State* L) {
  lua_settop(L, 1);
  lua_setfield(L, LUA_REGISTRYINDEX, "rille.worker.cancel");
  return 0;
}

// ---- messages ----------------------------------------------------------------------------------

// packet:modules() -> { name, place, … }
int packet_modules(lua_State* L) {
  push_modules(L, Class<Packet>::check(L, 1)->message.bytes);
  return 1;
}

// packet:values() -> the values
int packet_values(lua_State* L) { return decode(L, Class<Packet>::check(L, 1)->message); }

// encode(what, channels, ...) -> text; channels go into the list
int encode_text(lua_State* L) {
  static const char* const kWhat[] = {"call", "results", "value", nullptr};
  auto what = static_cast<Values>(luaL_checkoption(L, 1, nullptr, kWhat));
  luaL_checktype(L, 2, LUA_TTABLE);
  Message message;
  encode(L, 3, what, &message, 2);
  lua_pushlstring(L, message.bytes.data(), message.bytes.size());
  lua_pushboolean(L, message.needs_modules);
  return 2;
}

// modules_of(text) -> { name, place, … }
int modules_of(lua_State* L) {
  push_modules(L, string_at(L, 1));
  return 1;
}

// decode(text, channels) -> the values
int decode_text(lua_State* L) {
  Message message;
  message.bytes = string_at(L, 1);
  luaL_checktype(L, 2, LUA_TTABLE);
  return decode(L, message, 2);
}

// ---- channels ----------------------------------------------------------------------------------

Channel* check_channel(lua_State* L) { return Class<ChannelHandle>::check(L, 1)->channel.get(); }

// channel([capacity])
int channel(lua_State* L) {
  std::size_t capacity = Channel::kUnbounded;
  if (!lua_isnoneornil(L, 1)) capacity = static_cast<std::size_t>(luaL_checknumber(L, 1));
  push_channel(L, std::make_shared<Channel>(capacity));
  return 1;
}

int send(lua_State* L) {
  std::shared_ptr<Channel> to = Class<ChannelHandle>::check(L, 1)->channel;
  lua_settop(L, 2);
  auto message = std::make_unique<Message>();
  encode(L, 2, Values::kValue, message.get());
  charge(L, message.get());
  return to->send(L, std::move(message));
}

// receive(channel) -> true, value; a packet; or false at the end
int receive(lua_State* L) {
  std::shared_ptr<Channel> from = Class<ChannelHandle>::check(L, 1)->channel;
  return from->receive(L);
}

// give_back(channel, value): it has not been received after all
int give_back(lua_State* L) {
  std::shared_ptr<Channel> to = Class<ChannelHandle>::check(L, 1)->channel;
  lua_settop(L, 2);
  auto message = std::make_unique<Message>();
  encode(L, 2, Values::kValue, message.get());
  to->give_back(std::move(message));
  return 0;
}

int close_channel(lua_State* L) {
  check_channel(L)->close(L);
  return 0;
}

int channel_size(lua_State* L) {
  lua_pushnumber(L, static_cast<lua_Number>(check_channel(L)->size()));
  return 1;
}

int channel_is_closed(lua_State* L) {
  lua_pushboolean(L, check_channel(L)->is_closed());
  return 1;
}

// setup(parts): see open_codec
int setup(lua_State* L) {
  luaL_getmetatable(L, ChannelHandle::kName);
  lua_setfield(L, 1, "channel");
  open_codec(L, 1);
  return 0;
}

const rille_reg kPoolMethods[] = {
    {"set_paths", set_paths, 0}, {"run", run, RILLE_WAITS},   {"close", close_pool, RILLE_WAITS},
    {"stop", stop, 0},           {"is_closed", is_closed, 0}, {"queued", queued, 0},
    {nullptr, nullptr, 0}};

const rille_reg kPacketMethods[] = {
    {"modules", packet_modules, 0}, {"values", packet_values, 0}, {nullptr, nullptr, 0}};

const rille_reg kNone[] = {{nullptr, nullptr, 0}};

const rille_reg kFunctions[] = {{"setup", setup, 0},
                                {"pool", pool, 0},
                                {"default_size", default_size, 0},
                                {"take", take, RILLE_WAITS},
                                {"paths", paths, 0},
                                {"initializer_modules", initializer_modules, 0},
                                {"initializer", initializer, 0},
                                {"modules", modules, 0},
                                {"call", call, 0},
                                {"answer", answer, 0},
                                {"is_cancelled", is_cancelled, 0},
                                {"on_cancel", on_cancel, 0},
                                {"unblocked", unblocked, 0},
                                {"count_lost", count_lost, 0},
                                {"lost", lost, 0},
                                {"load", load, 0},
                                {"encode", encode_text, 0},
                                {"modules_of", modules_of, 0},
                                {"decode", decode_text, 0},
                                {"channel", channel, 0},
                                {"send", send, RILLE_WAITS},
                                {"receive", receive, RILLE_WAITS},
                                {"give_back", give_back, 0},
                                {"close", close_channel, 0},
                                {"size", channel_size, 0},
                                {"is_closed", channel_is_closed, 0},
                                {nullptr, nullptr, 0}};

}  // namespace
}  // namespace rille::worker

extern "C" int luaopen_rille_core_worker(lua_State* L) {
  using namespace rille::worker;
  rille::Class<PoolHandle>::define(L, kPoolMethods);
  rille::Class<Packet>::define(L, kPacketMethods);
  rille::Class<ChannelHandle>::define(L, kNone);
  rille_newlib(L, kFunctions);
  luaL_getmetatable(L, ChannelHandle::kName);
  lua_setfield(L, -2, "channel_meta");
  return 1;
}
