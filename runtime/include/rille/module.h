/* What a native module needs so that its functions can wait without blocking: C, versioned, stable.
 *
 * A module is an ordinary Lua C module. A function that waits is listed with RILLE_WAITS in the
 * table given to rille_newlib; it prepares a waiter, starts its operation and returns
 * rille_park(L, waiter). Later, on the loop's thread, the operation completes the waiter. Results
 * travel error first (nil, results... or an error value): rille_newlib wraps the function so that
 * the error is raised in its caller's frame.
 */
#ifndef RILLE_MODULE_H
#define RILLE_MODULE_H

#include <uv.h>

#ifdef __cplusplus
extern "C" {
#endif

#include <lauxlib.h>
#include <lua.h>

#define RILLE_ABI_VERSION 1

/* Marks a function that may park its task. */
#define RILLE_WAITS 1

typedef struct rille_waiter rille_waiter;

typedef struct rille_reg {
  const char* name;
  lua_CFunction function;
  int flags;
} rille_reg;

/* Pushes a table of the functions, which end with {NULL, NULL, 0}. Raises an error if the module
 * was built for another ABI. */
#define rille_newlib(L, f) rille_newlib_abi((L), (f), RILLE_ABI_VERSION)
void rille_newlib_abi(lua_State* L, const rille_reg* functions, int abi);

/* The libuv loop of the runtime that `L` belongs to. */
uv_loop_t* rille_loop(lua_State* L);

/* Prepares a wait of the calling task. `on_cancel` (may be NULL) is called at most once, when the
 * task gives the wait up; the operation must still end with a completion, there and then or later,
 * which finds nobody waiting. The waiter belongs to the module until its first completion, which
 * frees it, also after a cancellation or the runtime's end. Raises an error where waiting is
 * impossible. */
rille_waiter* rille_prepare(lua_State* L, void (*on_cancel)(rille_waiter*, void*), void* data);

/* Puts the calling task to sleep until the waiter is completed: `return rille_park(L, w);`. */
int rille_park(lua_State* L, rille_waiter* w);

/* Ends the wait. `push` is called exactly once, in a protected call when the task is resumed, and
 * pushes nil and the results, or an error value; with NULL for `L` when nobody wants the results,
 * so that it can free `data`. Loop's thread only. */
void rille_complete(rille_waiter* w, int (*push)(lua_State*, void*), void* data);

/* The same with an error of the given kind; `code` may be NULL. Loop's thread only. */
void rille_fail(rille_waiter* w, const char* kind, const char* code, const char* message);

/* rille_complete for any thread. */
void rille_complete_from_thread(rille_waiter* w, int (*push)(lua_State*, void*), void* data);

/* Runs `work` on one of the runtime's threads for such work while the task sleeps: `return
 * rille_work(L, ...);`. Signals are blocked there. `done` pushes nil and the results or an error
 * value; `free_data` (may be NULL) is called at the end in any case. A cancelled task is freed at
 * once; `work` that has begun runs to its end, else it is not called. A runtime that is closed
 * waits some seconds for it; after that `free_data` is called on that thread. */
int rille_work(lua_State* L, void (*work)(void*), int (*done)(lua_State*, void*),
               void (*free_data)(void*), void* data);

/* Raises an error object; `code` may be NULL. Never returns. */
int rille_error(lua_State* L, const char* kind, const char* code, const char* format, ...);

/* Pushes an error object; `code` may be NULL. */
void rille_push_error(lua_State* L, const char* kind, const char* code, const char* message);

/* Pushes an OSError for a negative libuv status. `path`, `dest` and `address` may be NULL. */
void rille_push_os_error(lua_State* L, int status, const char* syscall, const char* path,
                         const char* dest, const char* address);

#ifdef __cplusplus
}
#endif
#endif
