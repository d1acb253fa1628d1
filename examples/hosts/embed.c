/* A host in C: a function and a waiting function for scripts, results, errors, a task. */
#include <pthread.h>
#include <rille/rille.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* add(a, b) -> sum */
static int add(rille_call* call, void* data) {
  double a, b;
  (void)data;
  if (rille_call_number(call, 1, &a) != 0 || rille_call_number(call, 2, &b) != 0) return -1;
  rille_call_return(call, rille_number(a + b));
  return 0;
}

/* length(text) -> its length, from another thread: the task waits, the runtime does not. */
struct job {
  rille_completion* completion;
  char* text;
};

static void* measure(void* data) {
  struct job* job = data;
  rille_value* results = rille_table();
  rille_append(results, rille_number((double)strlen(job->text)));
  rille_completion_resolve(job->completion, results);
  free(job->text);
  free(job);
  return NULL;
}

static int length(rille_completion* completion, rille_call* call, void* data) {
  const char* text;
  pthread_t* thread = data;
  struct job* job;
  if (rille_call_string(call, 1, &text, NULL) != 0) {
    rille_completion_drop(completion);
    return -1;
  }
  job = malloc(sizeof *job);
  job->completion = completion;
  job->text = strdup(text);
  return pthread_create(thread, NULL, measure, job);
}

static int fail(rille_exception* error) {
  fprintf(stderr, "%s\n", error->text);
  rille_exception_clear(error);
  return 1;
}

int main(void) {
  rille_exception error = {0};
  pthread_t thread;
  rille_value* results;
  rille_task* task;
  rille_runtime* runtime = rille_open(NULL, &error);
  if (!runtime) return fail(&error);
  rille_define(runtime, "host.add", add, NULL, NULL, &error);
  rille_define_async(runtime, "host.length", length, &thread, NULL, &error);

  results = rille_run_string(runtime, "return host.add(1, 2), host.length('four')", "=sum", &error);
  if (!results) return fail(&error);
  printf("%g %g\n", rille_to_number(rille_at(results, 1)), rille_to_number(rille_at(results, 2)));
  rille_value_free(results);
  pthread_join(thread, NULL);

  if (!rille_run_string(runtime, "host.add(1, {})", "=wrong", &error)) {
    printf("%s\n", error.message);
    rille_exception_clear(&error);
  }

  task = rille_spawn_string(runtime, "require('rille.async').sleep(1000)", NULL, &error);
  rille_task_cancel(task, "it takes too long", &error);
  if (!rille_task_result(task, &error)) {
    printf("%s\n", error.message);
    rille_exception_clear(&error);
  }
  rille_task_free(task);
  return rille_close(runtime, &error) == 0 ? 0 : fail(&error);
}
