/* For hosts in C: a runtime that runs async Lua programs; what rille.hpp is for C++.
 *
 *   rille_runtime* runtime = rille_open(NULL, &error);
 *   rille_value* results = rille_run_string(runtime, "return 1 + 1", "=sum", &error);
 *   double sum = rille_to_number(rille_at(results, 1));
 *   rille_value_free(results);
 *   rille_close(runtime, &error);
 *
 * A runtime is one Lua state and one loop. It is used by one thread at a time; only what says so
 * may be called from others. While it runs (inside a function that a script calls, a posted one, or
 * one of the loop's callbacks), everything may be called but what runs it itself: rille_run_file,
 * rille_run_string, rille_run, rille_poll, rille_close, and rille_task_result of a task that is not
 * done.
 *
 * What can fail takes a `rille_exception*`, which may be NULL, and fills it in; it returns NULL, or
 * -1, then. A NULL where something is needed is such a failure, or nothing happens. Text is UTF-8
 * by custom, and never looked at: it may hold zeros where a size is given.
 */
#ifndef RILLE_RILLE_H
#define RILLE_RILLE_H

#include <stddef.h>

#ifndef RILLE_API
#define RILLE_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct lua_State;
struct uv_loop_s; /* uv_loop_t of uv.h, which strict C cannot include everywhere */

typedef struct rille_runtime rille_runtime;
typedef struct rille_value rille_value;
typedef struct rille_task rille_task;
typedef struct rille_call rille_call;
typedef struct rille_completion rille_completion;

/* "0.1.0" */
RILLE_API const char* rille_version(void);

/* ---- errors -----------------------------------------------------------------------------------
 */

/* What a script raised, or what a call was given that it cannot use. Set it to {0} before its first
 * use; a failing call overwrites and frees what was in it, a successful one leaves it alone. */
typedef struct rille_exception {
  char* kind;      /* "TimeoutError", "OSError" ...; "Error" for what is no error object */
  char* message;   /* what happened */
  char* traceback; /* where, across tasks; may be empty */
  char* code;      /* "ENOENT" and the like, of the system's errors; else empty */
  char* text;      /* all of it, for people */
  int cancelled;   /* the task was cancelled, and so did not fail */
} rille_exception;

/* Frees what is in it, and sets it to {0}. */
RILLE_API void rille_exception_clear(rille_exception* error);

/* ---- values -----------------------------------------------------------------------------------
 */

/* A Lua value outside of Lua; tables are copied, in both directions. Whoever gets a `rille_value*`
 * frees it, or gives it away; a `const rille_value*` belongs to what it came from. Values may be
 * used in any thread, one at a time, unless there is a function in them. */
typedef enum rille_type {
  RILLE_NIL,
  RILLE_BOOLEAN,
  RILLE_NUMBER,
  RILLE_STRING,
  RILLE_TABLE,
  RILLE_FUNCTION,
  RILLE_OBJECT
} rille_type;

RILLE_API rille_value* rille_nil(void);
RILLE_API rille_value* rille_boolean(int b);
RILLE_API rille_value* rille_number(double n);
RILLE_API rille_value* rille_string(const char* text); /* up to its zero; NULL is nil */
RILLE_API rille_value* rille_bytes(const char* data, size_t size);
RILLE_API rille_value* rille_table(void); /* an empty one */
RILLE_API rille_value* rille_value_copy(const rille_value* v);
RILLE_API void rille_value_free(rille_value* v); /* NULL is nothing */

RILLE_API rille_type rille_value_type(const rille_value* v); /* NULL is nil */
RILLE_API int rille_to_boolean(const rille_value* v);        /* as in Lua: 0 for nil and false */
RILLE_API double rille_to_number(const rille_value* v);      /* 0 for what is no number */
/* NULL for what is no string. Lives as long as the value; `size` may be NULL. */
RILLE_API const char* rille_to_string(const rille_value* v, size_t* size);

/* Of a table: how long the list 1..n in it is; the value at a position, or a name, NULL if there is
 * none. Results and arguments are such lists, in which a value may be nil. */
RILLE_API size_t rille_size(const rille_value* table);
RILLE_API const rille_value* rille_at(const rille_value* table, size_t position);
RILLE_API const rille_value* rille_field(const rille_value* table, const char* name);
/* How many values stand outside of the list, and these, with the key in `*key`, from 0 on. */
RILLE_API size_t rille_field_count(const rille_value* table);
RILLE_API const rille_value* rille_field_at(const rille_value* table, size_t number,
                                            const rille_value** key);
/* Put a value, which is the table's from here on, at a name, or at the end of the list. They return
 * -1, and free the value, if `table` is none, or the name NULL. */
RILLE_API int rille_set_field(rille_value* table, const char* name, rille_value* v);
RILLE_API int rille_append(rille_value* table, rille_value* v);
/* The same by any key: a text, a number or a boolean, which is copied. */
RILLE_API const rille_value* rille_get_key(const rille_value* table, const rille_value* key);
RILLE_API int rille_set_key(rille_value* table, const rille_value* key, rille_value* v);

/* ---- opening and closing ----------------------------------------------------------------------
 */

/* Something that would go to stderr. */
typedef struct rille_report {
  const char* message;   /* what happened, with the error it is about */
  const char* error;     /* that error alone; may be empty */
  const char* traceback; /* where; may be empty */
  const char* text;      /* all of it as it would be printed */
} rille_report;

/* How a runtime is opened. Lists of texts end with NULL; NULL is an empty list. Set the whole to
 * {0} first: that is what rille_open does without options. Later versions may add fields at the
 * end; a program that was compiled before then goes on to work. */
typedef struct rille_options {
  struct uv_loop_s* loop;  /* borrowed, and run by the host; NULL: the runtime has its own */
  const char* const* args; /* rille.args, and what scripts get as `...` */
  int debug;
  size_t memory_limit;        /* bytes of the interpreter; 0: none */
  double slice_limit;         /* seconds that Lua may hold the loop; 0: none */
  const char* const* modules; /* may be required; empty: all */
  int sandboxed;              /* if not 0, scripts reach only what these lists grant */
  const char* const* allow_read;
  const char* const* allow_write;
  const char* const* allow_net;
  const char* const* allow_run;
  const char* const* allow_env;
  void (*on_report)(const rille_report* report, void* data); /* NULL: it goes to stderr */
  void* on_report_data;
  const char* executable; /* what runs scripts in processes of their own; may be NULL */
  int uninterruptible;    /* if not 0, rille_interrupt stops no compiled loops; a little faster */
  const char* script;     /* that will be run by rille_run_file: arg[0]; may be NULL */
  const char* const* command; /* what stood before it on a command line: makes the global `arg` */
} rille_options;

#define rille_open(options, error) rille_open_sized((options), sizeof(rille_options), (error))
RILLE_API rille_runtime* rille_open_sized(const rille_options* options, size_t size,
                                          rille_exception* error);
/* Cancels every task, and lets them clean up for at most 10 seconds: what rille_close does first,
 * and enough for a program that ends soon anyway. Nothing can be run afterwards. */
RILLE_API int rille_finish(rille_runtime* runtime, rille_exception* error);
/* Whether scripts have loaded native modules, whose objects may have something to do in
 * rille_close.
 */
RILLE_API int rille_has_libraries(const rille_runtime* runtime);
/* Errors that nobody took, so far; the status that a script wants the program to end with, or -1.
 */
RILLE_API int rille_lost_errors(const rille_runtime* runtime);
RILLE_API int rille_exit_status(const rille_runtime* runtime);
/* The Lua state, for what this header does not do, while the runtime does not run. */
RILLE_API struct lua_State* rille_lua_state(rille_runtime* runtime);
/* Cancels every task, lets them clean up for at most 10 seconds, closes every handle and frees the
 * runtime. In the middle of running it fails, and the runtime stays. NULL is nothing. */
RILLE_API int rille_close(rille_runtime* runtime, rille_exception* error);

/* ---- scripts ----------------------------------------------------------------------------------
 */

/* Run a script to its end and to that of every task started under it; its results as a list. `args`
 * ends with NULL and may be NULL: then those of the options count. */
RILLE_API rille_value* rille_run_file(rille_runtime* runtime, const char* path,
                                      const char* const* args, rille_exception* error);
RILLE_API rille_value* rille_run_string(rille_runtime* runtime, const char* code,
                                        const char* chunk_name, rille_exception* error);

/* The same without waiting. A task is freed with rille_task_free, which does not end it. */
RILLE_API rille_task* rille_spawn_file(rille_runtime* runtime, const char* path,
                                       const char* const* args, rille_exception* error);
RILLE_API rille_task* rille_spawn_string(rille_runtime* runtime, const char* code,
                                         const char* chunk_name, rille_exception* error);
/* Calls a Lua function in a task of its own; `args` is a list, or NULL. */
RILLE_API rille_task* rille_spawn(rille_runtime* runtime, const rille_value* function,
                                  const rille_value* args, rille_exception* error);

RILLE_API int rille_task_done(const rille_task* task);
/* Its results as a list; runs the runtime until it is done, if it is not. */
RILLE_API rille_value* rille_task_result(rille_task* task, rille_exception* error);
/* Asks it to end; `reason` may be NULL. */
RILLE_API int rille_task_cancel(rille_task* task, const char* reason, rille_exception* error);
/* Calls `fn` once, on the loop's thread, soon after it is done, or when the runtime is closed. The
 * task there is the one that was given here, or, if that was freed, NULL. */
RILLE_API void rille_task_on_done(rille_task* task, void (*fn)(rille_task* task, void* data),
                                  void* data);
RILLE_API void rille_task_free(rille_task* task);

/* Cancels the script that rille_run_file or rille_run_string runs. */
RILLE_API int rille_cancel(rille_runtime* runtime, const char* reason, rille_exception* error);

/* ---- what scripts see -------------------------------------------------------------------------
 */

/* A global; "game.score" is a field of the table `game`. rille_set takes the value. */
RILLE_API rille_value* rille_get(rille_runtime* runtime, const char* name, rille_exception* error);
RILLE_API int rille_set(rille_runtime* runtime, const char* name, rille_value* v,
                        rille_exception* error);

/* A function for scripts: reads its arguments from the call, and returns 0; or -1 after
 * rille_call_fail, or after an argument was a wrong one. */
typedef int (*rille_function)(rille_call* call, void* data);
/* Gives scripts a function under a global name. `free_data` (may be NULL) is called when it has
 * gone, at the latest with the runtime. */
RILLE_API int rille_define(rille_runtime* runtime, const char* name, rille_function fn, void* data,
                           void (*free_data)(void*), rille_exception* error);

/* How many arguments a call has; the one at a position from 1, which is the call's. A value that
 * cannot be given to the host is NULL, like one that is not there. */
RILLE_API int rille_call_count(const rille_call* call);
RILLE_API const rille_value* rille_call_argument(rille_call* call, int position);
/* Read an argument that has to be of a type. If it is not they return -1; the function does so too
 * then, and the script gets Lua's "bad argument". The text lives as long as the call. */
RILLE_API int rille_call_boolean(rille_call* call, int position, int* b);
RILLE_API int rille_call_number(rille_call* call, int position, double* n);
RILLE_API int rille_call_string(rille_call* call, int position, const char** text, size_t* size);
/* Adds a result, which is the call's from here on. */
RILLE_API void rille_call_return(rille_call* call, rille_value* v);
/* The call fails with an error of that kind. Returns -1. */
RILLE_API int rille_call_fail(rille_call* call, const char* kind, const char* message);

/* A function that waits: starts something and returns 0, or -1 as above; the task that called it
 * sleeps until the completion is used. The completion is the function's own, whatever it returns;
 * each of the three calls that end it frees it. The call is gone when the function has returned. */
typedef int (*rille_async_function)(rille_completion* completion, rille_call* call, void* data);
RILLE_API int rille_define_async(rille_runtime* runtime, const char* name, rille_async_function fn,
                                 void* data, void (*free_data)(void*), rille_exception* error);

/* ---- classes ----------------------------------------------------------------------------------
 */

/* A class of the host's, known by its address: scripts see objects with methods, each of which
 * stands for a pointer. `free_object` (may be NULL) is called when no script and no value holds the
 * object any more. */
typedef struct rille_class {
  const char* name; /* "Ship", or "game.Ship" */
  void (*free_object)(void* object);
} rille_class;

/* Gives scripts the class. They make objects by calling its name: then `constructor` is called, and
 * returns one with rille_call_return; without it (NULL) they cannot. */
RILLE_API int rille_define_class(rille_runtime* runtime, const rille_class* type,
                                 rille_function constructor, void* data, void (*free_data)(void*),
                                 rille_exception* error);
/* `object:name(...)`: the function asks rille_call_self for the object; its arguments are counted
 * behind it. The names of Lua's own events, such as "__tostring", work too. */
RILLE_API int rille_define_method(rille_runtime* runtime, const rille_class* type, const char* name,
                                  rille_function fn, void* data, void (*free_data)(void*),
                                  rille_exception* error);
RILLE_API int rille_define_async_method(rille_runtime* runtime, const rille_class* type,
                                        const char* name, rille_async_function fn, void* data,
                                        void (*free_data)(void*), rille_exception* error);
/* The object that a method is called on; NULL in what is no method. */
RILLE_API void* rille_call_self(const rille_call* call);
/* Reads an argument that has to be an object of the class; see rille_call_number. */
RILLE_API int rille_call_object(rille_call* call, int position, const rille_class* type,
                                void** object);
/* A value that stands for an object, and owns it; the object of a value, NULL if it is none of the
 * class. Copies of the value share the object. */
RILLE_API rille_value* rille_object(const rille_class* type, void* object);
RILLE_API void* rille_to_object(const rille_value* v, const rille_class* type);

/* ---- waits ------------------------------------------------------------------------------------
 */

/* The wait ends with results, a list that is taken (NULL: none), or with an error; or it is
 * dropped, and fails with an error that says so. Any thread. After a cancellation, or when the
 * runtime is closed, nothing happens but that it is freed. */
RILLE_API void rille_completion_resolve(rille_completion* completion, rille_value* results);
RILLE_API void rille_completion_fail(rille_completion* completion, const char* kind,
                                     const char* message);
RILLE_API void rille_completion_drop(rille_completion* completion);
/* Calls `fn` once, on the loop's thread, when the task gives the wait up; at once if it has done so
 * already. The completion is still to be ended. Any thread. */
RILLE_API void rille_completion_on_cancel(rille_completion* completion, void (*fn)(void* data),
                                          void* data);
/* Whether the task has given the wait up. Any thread. */
RILLE_API int rille_completion_cancelled(const rille_completion* completion);

/* ---- the loop ---------------------------------------------------------------------------------
 */

/* Runs until nothing is left. */
RILLE_API int rille_run(rille_runtime* runtime, rille_exception* error);
/* Runs what is ready and what has come in, for about so many seconds, without sleeping. 1 if
 * anything is left, else 0. */
RILLE_API int rille_poll(rille_runtime* runtime, double budget_seconds, rille_exception* error);
/* A descriptor that is readable when there is something for rille_poll to do. */
RILLE_API int rille_backend_fd(rille_runtime* runtime);
/* Seconds until rille_poll has something to do without that; below 0: never. */
RILLE_API double rille_timeout(rille_runtime* runtime);
/* The libuv loop, to start handles on. */
RILLE_API struct uv_loop_s* rille_uv_loop(rille_runtime* runtime);
/* Calls `fn` on the loop's thread, outside of Lua. `free_data` (may be NULL) is called afterwards,
 * or instead if the runtime is closed before. Any thread. */
RILLE_API void rille_post(rille_runtime* runtime, void (*fn)(void* data), void* data,
                          void (*free_data)(void*));
/* Stops the Lua code that runs now, or else cancels the script of rille_run_file or
 * rille_run_string, also one that is run next; without one, stops what is ready to run, if anything
 * is. Any thread. */
RILLE_API void rille_interrupt(rille_runtime* runtime, const char* reason);

#ifdef __cplusplus
}
#endif
#endif
