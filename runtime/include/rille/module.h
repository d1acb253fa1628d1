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

/* uv.h needs types of POSIX, which the headers leave out for strict C (-std=c11). Include this one
 * before all others there, or define this for all of the module. */
#if defined(__STRICT_ANSI__) && !defined(_DEFAULT_SOURCE)
#define _DEFAULT_SOURCE 1
#endif

#include <uv.h>

#ifdef __cplusplus
extern "C" {
#endif

#include <lauxlib.h>
#include <lua.h>

#define RILLE_ABI_VERSION 1

/* What the program, or the shared library, shows. */
#ifndef RILLE_API
#define RILLE_API __attribute__((visibility("default")))
#endif

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
RILLE_API void rille_newlib_abi(lua_State* L, const rille_reg* functions, int abi);

/* The libuv loop of the runtime that `L` belongs to. */
RILLE_API uv_loop_t* rille_loop(lua_State* L);

/* Raises an error where waiting is impossible: outside of tasks, and inside of C functions that
 * call Lua. After it, rille_prepare raises none. */
RILLE_API void rille_check_wait(lua_State* L);

/* Prepares a wait of the calling task. `on_cancel` (may be NULL) is called at most once, when the
 * task gives the wait up; the operation must still end with a completion, there and then or later,
 * which finds nobody waiting. The waiter belongs to the module until its first completion, which
 * frees it, also after a cancellation or the runtime's end. Raises an error where waiting is
 * impossible. */
RILLE_API rille_waiter* rille_prepare(lua_State* L, void (*on_cancel)(rille_waiter*, void*),
                                      void* data);

/* Puts the calling task to sleep until the waiter is completed: `return rille_park(L, w);`. */
RILLE_API int rille_park(lua_State* L, rille_waiter* w);

/* Ends the wait: the first completion does; a second one is the module's fault, which builds of
 * Rille for debugging find and stop at. `push` is called exactly once, in a protected call when the
 * task is resumed, and pushes nil and the results, or an error value; with NULL for `L` when nobody
 * wants the results, so that it can free `data`. More than a few results need luaL_checkstack.
 * Without `push` (NULL) there are none. Loop's thread only. */
RILLE_API void rille_complete(rille_waiter* w, int (*push)(lua_State*, void*), void* data);

/* The same with an error of the given kind; `code` may be NULL. Loop's thread only. */
RILLE_API void rille_fail(rille_waiter* w, const char* kind, const char* code, const char* message);

/* rille_complete for any thread, also when the runtime has gone meanwhile. */
RILLE_API void rille_complete_from_thread(rille_waiter* w, int (*push)(lua_State*, void*),
                                          void* data);

/* Runs `work` on one of the runtime's threads for such work while the task sleeps: `return
 * rille_work(L, ...);`. Signals are blocked there. `done` pushes nil and the results or an error
 * value; `free_data` (may be NULL) is called at the end in any case. A cancelled task is freed at
 * once; `work` that has begun runs to its end, else it is not called. A runtime that is closed
 * waits some seconds for it; after that `free_data` is called on that thread. Without `done` (NULL)
 * there are no results. */
RILLE_API int rille_work(lua_State* L, void (*work)(void*), int (*done)(lua_State*, void*),
                         void (*free_data)(void*), void* data);

/* Keeps `data` with the runtime under a name of the module's own, such as the address of a
 * variable; what stood there before is freed. `free_data` (may be NULL) is called when the runtime
 * is closed, which at its regular end the executable does too if it has loaded a module: all tasks
 * have ended then, and so have the objects of the Lua state that were made later; the loop still
 * turns for handles that are closed here. */
RILLE_API void rille_set_data(lua_State* L, const void* name, void* data, void (*free_data)(void*));

/* What is kept there, or NULL. */
RILLE_API void* rille_get_data(lua_State* L, const void* name);

/* Has `function` called when the runtime ends, once all tasks have, with `data` as a light
 * userdata: in a task of its own, so that it may wait if it is marked with RILLE_WAITS. The last
 * registered is called first. What it raises is reported. A runtime that is closed gives up on it
 * after some seconds. */
RILLE_API void rille_at_close(lua_State* L, lua_CFunction function, int flags, void* data);

/* Raises an error object; `code` may be NULL. Never returns. */
RILLE_API int rille_error(lua_State* L, const char* kind, const char* code, const char* format,
                          ...);

/* Pushes an error object; `code` may be NULL. */
RILLE_API void rille_push_error(lua_State* L, const char* kind, const char* code,
                                const char* message);

/* Pushes an OSError for a negative libuv status. `path`, `dest` and `address` may be NULL. */
RILLE_API void rille_push_os_error(lua_State* L, int status, const char* syscall, const char* path,
                                   const char* dest, const char* address);

#ifdef __cplusplus
}
#endif
#endif
